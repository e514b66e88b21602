"""The ServerApp that Flower loads: the whole story, over Flower's own grid."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter, sleep

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedlaf import report
from fedlaf.core.errors import RoundFailed, require
from fedlaf.core.types import ClientId
from fedlaf.experiment.config_errors import USER_ERRORS, explained
from fedlaf.experiment.flower_app.composing import OVERRIDES, composed
from fedlaf.experiment.pipeline import play
from fedlaf.experiment.plan import Plan, prepare
from fedlaf.experiment.run_record import RunRecord
from fedlaf.experiment.tracked import tracked
from fedlaf.simulation import PolledGrid, flower_compat


class Refused(RuntimeError):
    """A run that ends here, in one line."""

    def __init__(self, line: str) -> None:
        super().__init__(f"fedlaf: error: {line}")


class Log(report.Watch):
    """Stages as lines of the run's log, which is all that is seen of a run elsewhere."""

    def __init__(self) -> None:
        self._log = logging.getLogger("flwr")

    def stage(self, name: str, rounds: int, clients: int) -> None:
        """A stage begins; Flower's own strategies tell of each round."""
        self._log.info("fedlaf: %s, %d rounds, %d clients", name, rounds, clients)

    def note(self, line: str) -> None:
        """A line of news."""
        self._log.info("fedlaf: %s", line)

    def withdrawn(self, nodes: Mapping[ClientId, int]) -> None:
        """These clients have been forgotten: who runs the federation may unregister their nodes."""
        for client, node in nodes.items():
            self._log.info("fedlaf: client %d is forgotten, its node is asked no more: %d", client, node)


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Tell the story; the report's files go where Hydra says. Raises Refused, in one line."""
    flower_compat.in_one_line(Refused)
    torch.set_num_threads(1)  # as in every client: the same bits on any engine
    try:
        config, hydra = composed(str(context.run_config.get(OVERRIDES, "")), nodes=_simulated_nodes(grid))
        plan = prepare(config, hydra.runtime.choices.get("forget") or "")
        _check_nodes(grid, len(plan.federation))
        finished = _report(plan, grid, Path(hydra.run.dir).absolute())
    except USER_ERRORS as error:
        raise Refused(explained(error)) from None
    except RoundFailed as error:
        raise Refused(f"{error}; finished stages are kept, resume= takes them up") from None
    if finished.stopped is not None:
        raise Refused(finished.stopped)


def _report(plan: Plan, grid: Grid, folder: Path) -> report.Report:
    clock = perf_counter()
    record = RunRecord(plan.config, plan.method_name, provenance=dict(plan.provenance))
    polled = PolledGrid(grid, 0.1 if flower_compat.is_simulated(grid) else 0.5)
    with tracked(plan, folder, Log()) as tracking:
        finished = play(plan, polled, folder, tracking, record)
        finished = replace(finished, seconds={**finished.seconds, "total": perf_counter() - clock})
        tracking.finish(finished, folder)
    report.tell(finished, folder)
    return finished


def _simulated_nodes(grid: Grid) -> int | None:
    """How many nodes a simulation has; None for a deployment, whose nodes come when they come."""
    if not flower_compat.is_simulated(grid):
        return None
    before, nodes = -1, 0
    while nodes == 0 or nodes != before:  # they are registered while the server starts
        before = nodes
        sleep(0.5)
        nodes = len(list(grid.get_node_ids()))
    return nodes


def _check_nodes(grid: Grid, clients: int) -> None:
    """A simulation with another number of nodes would be waited for in vain."""
    nodes = _simulated_nodes(grid)
    expected = f"{nodes}, the num-supernodes of this simulation (--federation-config num-supernodes=...)"
    require(nodes in (None, clients), "clients", expected, clients)
