"""SIFU: how far back it goes, that its noise is real, and what it says of both."""

from __future__ import annotations

from dataclasses import replace
from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest
from support.federations import enrolled, initial_weights, same_bits, small_spec
from support.histories import leaving, numbers, recorded, three

from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.data.federation import build
from fedlaf.method.contract import MethodInputs, Stage, StageResult
from fedlaf.method.history_writer import HistoryWriter
from fedlaf.method.update_history import HistoryHandle, HistorySpec, UpdateHistory
from fedlaf.objectives.classification import Fit
from fedlaf.strategies.base.strategy import ForgetStrategy
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.retrain import Retrain
from fedlaf.strategies.sifu import Sifu

EQUAL = {0: 10, 1: 10, 2: 10}
TWO_ROUNDS = [
    {0: (3, 0, 6), 1: (0, 4, 2), 2: (2, 8, 4)},
    {0: (9, 0, 0), 1: (1, 1, 1), 2: (3, 5, 7)},
]
FIRST = sqrt((2 / 3) ** 2 + 2**2 + 1)
"""|(5/3, 4, 4) - (1, 6, 3)|: the mean of all, and of those who stay."""
SECOND = sqrt((7 / 3) ** 2 + 1 + (4 / 3) ** 2)
"""|(13/3, 2, 8/3) - (2, 3, 4)|."""


def noise_for(sensitivity: float, epsilon: float = 10.0, delta: float = 0.01) -> float:
    """The noise that hides just so much: the Gaussian mechanism."""
    return sensitivity * sqrt(2 * log(1.25 / delta)) / epsilon


@pytest.mark.parametrize(
    ("within", "growth", "round_", "model", "sensitivity"),
    [
        (FIRST - 0.01, 1.0, 0, (1, 1, 1), 0.0),
        (FIRST + 0.01, 1.0, 1, (1 + 5 / 3, 5, 5), FIRST),
        (FIRST + SECOND - 0.01, 1.0, 1, (1 + 5 / 3, 5, 5), FIRST),
        (FIRST + SECOND + 0.01, 1.0, 2, (7, 7, 5 + 8 / 3), FIRST + SECOND),
        (FIRST + SECOND + 0.01, 1.5, 1, (1 + 5 / 3, 5, 5), FIRST),
        (1.5 * FIRST + SECOND + 0.01, 1.5, 2, (7, 7, 5 + 8 / 3), 1.5 * FIRST + SECOND),
    ],
)
def test_how_far_back_by_hand(
    within: float, growth: float, round_: int, model: tuple[float, ...], sensitivity: float, tmp_path: Path
) -> None:
    method = Sifu(noise=noise_for(within), growth=growth)
    assert method.budget == pytest.approx(within)
    found = method.restart(three(1, 1, 1), recorded(tmp_path, TWO_ROUNDS, EQUAL), [0], [1, 2])
    assert found.round == round_
    assert numbers(found.weights) == pytest.approx(list(model), abs=1e-5)
    assert found.sensitivity == pytest.approx(sensitivity)


def test_a_round_without_the_leaver_costs_nothing_and_one_of_it_alone_all_that_it_moved(
    tmp_path: Path,
) -> None:
    rounds = [{1: (0, 4, 2), 2: (2, 8, 4)}, {0: (3, 0, 4)}]
    history = recorded(tmp_path, rounds, EQUAL)
    found = Sifu(noise=noise_for(5.01)).restart(three(0, 0, 0), history, [0], [1, 2])
    assert (found.round, found.sensitivity) == (2, pytest.approx(5))
    assert numbers(found.weights) == [4, 6, 7]


def test_noise_is_real_and_spares_what_is_not_trained() -> None:
    stage = Stage("request-1", 3, leaving(EQUAL, 0))
    weights = {
        "a.weight": np.ones(40_000, np.float32), "a.running_mean": np.ones(9, np.float32),
        "a.num_batches_tracked": np.array(5),
    }  # fmt: skip
    method = Sifu(noise=0.2)
    found = method.with_noise(weights, stage)
    drawn = found["a.weight"] - 1.0
    assert abs(float(drawn.mean())) < 0.005
    assert float(drawn.std()) == pytest.approx(0.2, rel=0.02)
    assert same_bits({k: found[k] for k in list(found)[1:]}, {k: weights[k] for k in list(weights)[1:]})
    assert same_bits(found, method.with_noise(weights, stage))
    other = method.with_noise(weights, replace(stage, name="request-2"))
    assert not np.array_equal(found["a.weight"], other["a.weight"])


# ---- in a federation

SPEC = small_spec(4, rows=120, backdoor=None)
FIT = Fit(lr=1e-2)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[StageResult, MethodInputs]:
    """Three rounds, and what they left."""
    grid, registry = enrolled(SPEC)
    folder = tmp_path_factory.mktemp("history")
    writer = HistoryWriter(HistoryHandle(HistorySpec(every=1), folder))
    start = initial_weights(SPEC)
    stage = Stage("train", 0, registry, history_writer=writer)
    result = FedAvg(3, fit=FIT).run(grid, start, stage)
    return result, MethodInputs(start=start, history=UpdateHistory([folder], HistorySpec(every=1)))


def served(method: ForgetStrategy, training: tuple[StageResult, MethodInputs]) -> StageResult:
    result, inputs = training
    grid, registry = enrolled(SPEC)
    request = ForgetRequest.of_clients([1], build(SPEC.federation).sizes)
    registry = replace(registry, request=request, trained=3)
    return method.run(grid, result.weights, Stage("request-1", 0, registry, inputs=inputs, strict=True))


def test_without_noise_it_is_retraining_bit_for_bit(training: tuple[StageResult, MethodInputs]) -> None:
    found, again = (served(method, training) for method in (Sifu(fit=FIT, noise=0.0), Retrain(fit=FIT)))
    assert same_bits(found.weights, again.weights)
    assert found.cost.rounds == 3


def test_with_enough_noise_it_keeps_the_model_and_asks_nobody(
    training: tuple[StageResult, MethodInputs],
) -> None:
    method = Sifu(fit=FIT, noise=1e-3, epsilon=1e9)
    found = served(method, training)
    assert found.cost.rounds == found.cost.messages == 0
    apart: Weights = {k: found.weights[k] - array for k, array in training[0].weights.items()}
    drawn = np.concatenate([array.ravel() for array in apart.values()])
    assert float(drawn.std()) == pytest.approx(1e-3, rel=0.05)


def test_in_between_the_rounds_that_are_left_are_trained_without_the_leaver(
    training: tuple[StageResult, MethodInputs],
) -> None:
    history = training[1].history
    assert history is not None
    start = training[1].start
    assert start is not None
    whole = Sifu(epsilon=1e9).restart(start, history, [1], [0, 2, 3])
    assert whole.round == 3
    half = noise_for(0.99 * whole.sensitivity)
    found = served(Sifu(fit=FIT, noise=half), training)
    assert 0 < found.cost.rounds < 3
    assert {1} & {client for record in found.records for client in record.asked} == set()
    (certified,) = found.findings
    assert certified.name == "certified"
    back = 3 - int(found.cost.rounds)
    assert f"(10, 0.01)-unlearning where local training is no expansion: back to round {back} of 3" in str(
        certified
    )


def test_the_models_of_training_are_those_that_were(training: tuple[StageResult, MethodInputs]) -> None:
    history, start = training[1].history, training[1].start
    assert history is not None
    assert start is not None
    last = Sifu(epsilon=1e9).restart(start, history, [1], [0, 2, 3])
    for name, array in training[0].weights.items():
        assert np.allclose(last.weights[name], array, atol=1e-6)


def test_a_later_request_starts_over(training: tuple[StageResult, MethodInputs]) -> None:
    """What earlier leavers sent is gone, so no model between can be rebuilt."""
    grid, registry = enrolled(SPEC)
    sizes = build(SPEC.federation).sizes
    gone, leaves = (ForgetRequest.of_clients([client], sizes) for client in (0, 1))
    registry = replace(registry, request=leaves, removed=gone, trained=3)
    inputs = replace(training[1], history=replace(training[1].history, removed=frozenset({0})))
    stage = Stage("request-2", 0, registry, inputs=inputs, strict=True)
    found = Sifu(fit=FIT, epsilon=1e9).run(grid, training[0].weights, stage)
    assert found.cost.rounds == 3
    assert {client for record in found.records for client in record.asked} == {2, 3}
