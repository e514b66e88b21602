"""Clients that misbehave, on both engines: left out in training, in a request asked once more, then named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
from flwr.serverapp import Grid
from support.engines import CLIENTS, SPEC, ray_grid, two_ray_workers
from support.faulty import CHANGES, KINDS, SILENT, Fault, FaultyGrid
from support.federations import initial_weights, same_bits

from fedlaf.client import make_client_app
from fedlaf.core.errors import RoundFailed
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.method.contract import Stage, StageResult
from fedlaf.protocol.enrolment import enrol
from fedlaf.simulation import InlineGrid, RayGrid
from fedlaf.simulation.flower_compat import FIRST_NODE
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.laf_adam import LafAdam

pytestmark = pytest.mark.xdist_group("ray")
FORGETS = LafAdam(warmup_steps=1, align_rounds=1)
ENROLMENT = 1  # each client's first exchange
CLIENT, LEAVER = 1, 0
REASONS = {
    "NaN": "holds NaN or Inf", "wrong keys": "other names than the model's", "wrong shapes": "of shape",
    "absurd norm": "an absurd size", "raises": "ValueError: no such row", "hangs": "no answer in time",
    "no answer": "no answer in time", "late": "no answer in time",
}  # fmt: skip

Make = Callable[[], Grid]


@pytest.fixture(scope="module", params=["inline", "ray"])
def engine(request: pytest.FixtureRequest) -> Iterator[Make]:
    """What makes a grid of the engine; replies are single ones, whose arrays can be changed on the way."""
    app = make_client_app(SPEC)
    if request.param == "inline":
        yield partial(InlineGrid, app, CLIENTS)
        return
    with contextmanager(two_ray_workers)():
        grid = ray_grid(app, CLIENTS, sums=False)
        yield partial(_fresh, grid)
        grid.pool.close()


def _fresh(grid: RayGrid) -> Grid:
    grid.restore_states({})
    return grid


def train(inner: Grid, *faults: Fault) -> StageResult:
    grid = FaultyGrid(inner, *faults)
    registry = enrol(grid, expected=CLIENTS, timeout=60)
    result = FedAvg(rounds=2).run(grid, initial_weights(SPEC), Stage("train", 0, registry, timeout=60))
    assert grid.injected == sum(fault.last - fault.first + 1 for fault in faults)
    return result


def forget(grid: FaultyGrid) -> StageResult:
    registry = enrol(grid, expected=CLIENTS, timeout=60)
    asked = replace(registry, request=ForgetRequest.of_clients([LEAVER], registry.sizes), trained=1)
    return FORGETS.run(grid, initial_weights(SPEC), Stage("request-1", 0, asked, timeout=60, strict=True))


def fault(kind: str, client: int = CLIENT, *, first: int = 1, last: int = 1) -> Fault:
    return Fault(kind, FIRST_NODE + client, ENROLMENT + first, ENROLMENT + last)


@pytest.fixture(scope="module")
def trained(engine: Make) -> dict[str, Weights]:
    """The weights of training without a fault, and of one in which the client is not heard in round 1."""
    return {"whole": train(engine()).weights, "without": train(engine(), fault("no answer")).weights}


@pytest.mark.parametrize("kind", KINDS)
def test_training_leaves_the_client_out_of_the_round(
    kind: str, engine: Make, trained: dict[str, Weights]
) -> None:
    result = train(engine(), fault(kind))
    first, second = result.records
    assert second.failed == {}
    if kind == "twice":  # the second is an echo
        assert first.failed == {}
        assert same_bits(result.weights, trained["whole"])
        return
    assert set(first.failed) == {CLIENT}
    assert REASONS[kind] in first.failed[CLIENT]
    assert same_bits(result.weights, trained["without"])
    assert not same_bits(result.weights, trained["whole"])


@pytest.fixture(scope="module")
def served(engine: Make) -> tuple[Weights, int]:
    """The weights after a request without a fault, and the client's last exchange in it."""
    grid = FaultyGrid(engine())
    weights = forget(grid).weights
    return weights, grid.turns[FIRST_NODE + CLIENT] - ENROLMENT


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_asks_once_more_and_ends_with_the_same_bits(
    kind: str, engine: Make, served: tuple[Weights, int]
) -> None:
    """In the last phase, whose replies hold the extractor."""
    weights, last = served
    grid = FaultyGrid(engine(), fault(kind, first=last, last=last))
    assert same_bits(forget(grid).weights, weights)
    assert grid.injected == 1
    assert grid.turns[FIRST_NODE + CLIENT] == ENROLMENT + last + (kind != "twice")


@pytest.mark.parametrize("kind", [*CHANGES, "raises", *SILENT])
def test_a_request_stops_where_the_client_stays_at_fault(
    kind: str, engine: Make, served: tuple[Weights, int]
) -> None:
    grid = FaultyGrid(engine(), fault(kind, first=served[1], last=99))
    with pytest.raises(RoundFailed, match=rf"client {CLIENT}: .*{REASONS[kind]}") as stopped:
        forget(grid)
    assert "\n" not in str(stopped.value)
    assert grid.injected == 2  # asked once more, not for ever


def test_a_leaver_that_vanishes_in_its_own_forgetting_stops_the_request(engine: Make) -> None:
    """It answers the first phase and is not heard of again."""
    grid = FaultyGrid(engine(), fault("no answer", LEAVER, first=2, last=99))
    with pytest.raises(RoundFailed, match=rf"failed \[{LEAVER}\]; client {LEAVER}: no answer in time"):
        forget(grid)


def test_a_round_without_a_quorum_stops_training(engine: Make) -> None:
    faults = [fault("NaN", client) for client in range(3)]
    with pytest.raises(RoundFailed, match=r"4 clients asked, 1 answered, 3 failed \[0, 1, 2\]"):
        train(engine(), *faults)
