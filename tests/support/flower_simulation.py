"""A process that runs Flower's own simulation engine: `python -m support.flower_simulation FILE.npz`."""

from __future__ import annotations

import sys

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from fedlaf.client import make_client_app
from support.engines import CLIENTS, SPEC, by_name, train_unlearn_retrain

# Without an address Ray would join whatever cluster it finds on the machine.
BACKEND = {"client_resources": {"num_cpus": 1.0}, "init_args": {"address": "local", "num_cpus": 2}}


def main(target: str) -> None:
    """Write the weights by stage to `target`."""
    server = ServerApp()

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        np.savez(target, **by_name(train_unlearn_retrain(grid)))

    run_simulation(server, make_client_app(SPEC), CLIENTS, backend_config=BACKEND)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1])
