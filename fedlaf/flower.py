"""Flower's own way in: the apps that `flwr run` loads. One key, `overrides`, is Hydra's command line."""

from __future__ import annotations

import logging
import shlex
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from time import perf_counter, sleep

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from fedlaf import config as configuration
from fedlaf import report
from fedlaf.client import make_client_app
from fedlaf.pipeline import Story
from fedlaf.plan import Plan, prepare, spec_of
from fedlaf.simulation import PolledGrid, flower_private
from fedlaf.stage import RoundFailed
from fedlaf.stages import Shelf
from fedlaf.types import ClientId, InvalidValue, require

OVERRIDES = "overrides"
"""The one key of a run's configuration, and of a node's own."""

OF_A_NODE = ("data", "device")
"""Sections that a node may override for itself: where it finds the rows, and what it computes on."""


class Refused(RuntimeError):
    """A run that ends here, in one line."""

    def __init__(self, line: str) -> None:
        super().__init__(f"fedlaf: error: {line}")


class Log(report.Watch):
    """Stages as lines of the run's log, which is all that is seen of a run elsewhere."""

    def __init__(self) -> None:
        self._log = logging.getLogger("flwr")

    def stage(self, name: str, rounds: int) -> None:
        """A stage of `rounds` rounds begins."""
        self._log.info("fedlaf: %s, %d rounds", name, rounds)

    def advance(self, name: str) -> None:
        """Nothing: Flower's own strategies tell of each round."""

    def withdrawn(self, nodes: dict[ClientId, int]) -> None:
        """These clients have been forgotten: who runs the federation may unregister their nodes."""
        for client, node in nodes.items():
            self._log.info("fedlaf: client %d is forgotten, its node is asked no more: %d", client, node)


server = ServerApp()


@server.main()
def tell(grid: Grid, context: Context) -> None:
    """The whole story over Flower's own grid; the report's files go where Hydra says."""
    flower_private.in_one_line(Refused)
    torch.set_num_threads(1)  # as in every client: the same bits on any engine
    try:
        config, hydra = composed(str(context.run_config[OVERRIDES]), nodes=_simulated_nodes(grid))
        plan = prepare(config, hydra.runtime.choices.get("forget") or "")
        _check_nodes(grid, len(plan.federation))
        told = _told(plan, grid, Path(hydra.run.dir).absolute())
    except configuration.USER_ERRORS as error:
        raise Refused(configuration.explained(error)) from None
    except RoundFailed as error:
        raise Refused(f"{error}; finished stages are kept, resume= takes them up") from None
    if told.stopped is not None:
        raise Refused(told.stopped)


def _told(plan: Plan, grid: Grid, folder: Path) -> report.Report:
    clock = perf_counter()
    told = Story(plan, PolledGrid(grid), Shelf(folder, plan.resume), Log()).tell()
    told = replace(told, seconds={**told.seconds, "total": perf_counter() - clock})
    report.write(told, folder)
    report.tell(told, folder)
    return told


def _simulated_nodes(grid: Grid) -> int | None:
    """How many nodes a simulation has; None for a deployment, whose nodes come when they come."""
    if not flower_private.is_simulated(grid):
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


class ComposedApp(ClientApp):
    """A ClientApp that learns from the run's configuration, and the node's own, what it plays."""

    def __call__(self, message: Message, context: Context) -> Message:
        """The answer to a message. Raises InvalidValue for overrides that cannot be used."""
        given, node = str(context.run_config[OVERRIDES]), context.node_config
        own, nodes = str(node.get(OVERRIDES, "")), node.get("num-partitions")
        return _client_app(given, own, None if nodes is None else int(nodes))(message, context)


client = ComposedApp()


@lru_cache(maxsize=2)
def _client_app(given: str, own: str, nodes: int | None) -> ClientApp:
    for override in _parsed(own):
        section = (override.key_or_group or "").split(".")[0]
        require(section in OF_A_NODE, "overrides of a node", " or ".join(OF_A_NODE), override.input_line)
    return make_client_app(spec_of(composed(given, own, nodes=nodes)[0]))


def composed(*overrides: str, nodes: int | None = None) -> tuple[DictConfig, DictConfig]:
    """The configuration that `overrides` describe, and Hydra's own section. Raises what Hydra raises.

    Where they name neither `clients` nor an `experiment`, there are as many clients as `nodes`.
    """
    configuration.register()
    words = [word for text in overrides for word in _words(text)]
    named = {override.key_or_group for text in overrides for override in _parsed(text)}
    if nodes is not None and not named & {"clients", "experiment"}:
        words.append(f"clients={nodes}")
    with initialize_config_module("conf", version_base="1.3"):
        whole = compose("config", overrides=words, return_hydra_config=True)
    own = [str(key) for key in whole if key != "hydra"]
    return OmegaConf.masked_copy(whole, own), whole.hydra


def _parsed(overrides: str) -> list[Override]:
    return OverridesParser.create().parse_overrides(_words(overrides))


def _words(overrides: str) -> list[str]:
    try:
        return shlex.split(overrides)
    except ValueError as error:
        raise InvalidValue(OVERRIDES, f"overrides in the words of a shell ({error})", overrides) from None
