"""The sides that `benchmarks.engine` holds against each other: each runs in a process of its own."""

from __future__ import annotations

import itertools
import multiprocessing
import resource
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

BATCH = 32


@dataclass(frozen=True)
class Work:
    """`clients` of `rows` rows each, of which `cohort` (None: all) take `steps` steps a round."""

    clients: int
    steps: int
    rows: int
    cohort: int | None = None

    @property
    def asked(self) -> int:
        """Clients that a round asks."""
        return self.cohort or self.clients


def work(clients: int, steps: int) -> Work:
    """Each client has the rows of its steps."""
    return Work(clients, steps, steps * BATCH)


def spec_of(given: Work) -> Any:
    """The federation and the model."""
    from fedlaf.client.runtime import ClientSpec
    from fedlaf.data import Iid, Noise
    from fedlaf.data.federation import FederationSpec
    from fedlaf.models import Cnn

    source = Noise(train_rows=given.clients * given.rows, test_rows=10)
    return ClientSpec(FederationSpec(source, Iid(), given.clients, 0), Cnn(), "cpu")


def start_of(spec: Any) -> dict[str, Any]:
    """The initial weights."""
    from fedlaf.client.runtime import resident_model
    from fedlaf.models.arrays import weights_of

    return weights_of(resident_model(spec))


def bare(given: Work, rounds: int, workers: int) -> dict[str, Any]:
    """Seconds of each round of the bare loop."""
    spec = spec_of(given)
    weights = start_of(spec)
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for number in range(workers):
        here, there = context.Pipe()
        process = context.Process(target=_bare_worker, args=(there, spec, number, workers), daemon=True)
        process.start()
        pipes.append(here)
        processes.append(process)
    seconds = []
    for _ in range(rounds):
        start = perf_counter()
        for pipe in pipes:
            pipe.send(weights)
        sums = [pipe.recv() for pipe in pipes]
        weights = {k: (sum(s[k] for s in sums) / given.clients).astype(v.dtype) for k, v in weights.items()}
        seconds.append(perf_counter() - start)
    for pipe in pipes:
        pipe.send(None)
    for process in processes:
        process.join()
    return {"rounds": seconds}


def _bare_worker(pipe: Connection, spec: Any, number: int, workers: int) -> None:
    import torch
    from torch.nn import functional

    from fedlaf.client.runtime import client_data, resident_model
    from fedlaf.data import as_input

    torch.set_num_threads(1)
    model = resident_model(spec)
    model.train()
    mine = [client_data(spec, k).rows for k in range(number, spec.federation.clients, workers)]
    device = torch.device("cpu")
    while (weights := pipe.recv()) is not None:
        state = {k: torch.from_numpy(v) for k, v in weights.items()}
        sums = {k: torch.zeros(v.shape, dtype=torch.float64) for k, v in state.items()}
        for rows in mine:
            model.load_state_dict(state)
            optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
            for batch in torch.randperm(len(rows)).split(BATCH):
                loss = functional.cross_entropy(model(as_input(rows.x[batch], device)).logits, rows.y[batch])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            for name, value in model.state_dict().items():
                sums[name] += value
        pipe.send({k: v.numpy() for k, v in sums.items()})


def ours(given: Work, rounds: int, workers: int) -> dict[str, Any]:
    """Seconds of each round on our Ray grid, of the start, and the driver's peak memory."""
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp

    from fedlaf.client import make_client_app
    from fedlaf.simulation import Ray, RayGrid

    spec, found, first = spec_of(given), {}, []
    server = ServerApp()
    answers = RayGrid.answers

    def timed(grid: RayGrid, messages: Any, timeout: Any) -> Any:
        for reply in answers(grid, messages, timeout):
            if not first:
                first.append(perf_counter())
            yield reply

    RayGrid.answers = timed  # type: ignore[method-assign]

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        found["rounds"] = _trained(grid, spec, given, rounds)

    begin = perf_counter()
    Ray(workers=workers).run(server, make_client_app(spec), given.clients)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**found, "first_reply": first[0] - begin, "peak_mb": peak}


def stock(given: Work, rounds: int, workers: int) -> dict[str, Any]:
    """Seconds of each round under Flower's run_simulation, with the same apps."""
    import warnings

    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation

    from fedlaf.client import make_client_app

    warnings.simplefilter("ignore")
    spec, found, server = spec_of(given), {}, ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        found["rounds"] = _trained(grid, spec, given, rounds)

    resources = {"client_resources": {"num_cpus": 1.0}, "init_args": {"num_cpus": workers}}
    run_simulation(server, make_client_app(spec), given.clients, backend_config=resources)
    return found


def _trained(grid: Any, spec: Any, given: Work, rounds: int) -> list[float]:
    from fedlaf.method.contract import Stage
    from fedlaf.protocol.enrolment import enrol
    from fedlaf.strategies.fedavg import FedAvg

    registry = enrol(grid, expected=given.clients, timeout=600)
    ends = [perf_counter()]
    stage = Stage("train", 0, registry, on_round=lambda record, weights: ends.append(perf_counter()))
    FedAvg(rounds=rounds, cohort=given.cohort).run(grid, start_of(spec), stage)
    return [later - earlier for earlier, later in itertools.pairwise(ends)]


SIDES: dict[str, Callable[[Work, int, int], dict[str, Any]]] = {"bare": bare, "ours": ours, "stock": stock}
