"""Methods that end in federated averaging: retraining, fine-tuning, NoT, PGD."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.averaged import AveragedAs
from support.federations import enrolled, initial_weights, same_bits, small_spec
from support.histories import leaving, numbers, recorded, state_of, three
from torch import Tensor, nn

from fedlaf.client.steps.projected_ascent import climb, project
from fedlaf.core.cost import PEAKS, Cost
from fedlaf.core.request import ForgetRequest
from fedlaf.core.seeding import torch_stream
from fedlaf.core.types import Weights
from fedlaf.data import RowAccessLog
from fedlaf.data.federation import build
from fedlaf.method.contract import ClientRegistry, MethodInputs, Stage, StageResult
from fedlaf.models import Cnn
from fedlaf.objectives.classification import Ascend, Fit
from fedlaf.strategies.base.strategy import ForgetStrategy
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.fine_tune import FineTune
from fedlaf.strategies.pgd import Pgd, mean_distance, without
from fedlaf.strategies.retrain import Retrain
from fedlaf.strategies.weight_negation import WeightNegation, negated

SIZES = dict.fromkeys(range(4), 100)
REQUESTS = {
    "one leaves": ForgetRequest.of_clients([0], SIZES),
    "rows go": ForgetRequest.of_samples({0: range(40), 2: range(60, 100)}, SIZES),
}


def served(method: ForgetStrategy, request: ForgetRequest, weights: Weights, trained: int = 3) -> StageResult:
    grid, registry = enrolled(small_spec(4))
    asked = replace(registry, request=request, trained=trained)
    inputs = MethodInputs(start=initial_weights(small_spec(4)))
    return method.run(grid, weights, Stage("request-1", 0, asked, inputs=inputs))


def averaged(train: FedAvg, stage: str, request: ForgetRequest, weights: Weights) -> StageResult:
    """Training over clients whose rows are gone: the reference."""
    grid, registry = enrolled(small_spec(4))
    return train.run(grid, weights, Stage(stage, 0, replace(registry, removed=request)))


def counted(cost: Cost) -> Cost:
    """What is counted of a cost; seconds and memory are measured, and no two runs' are the same."""
    return replace(cost, client_seconds=0, **dict.fromkeys(PEAKS, 0))


@pytest.fixture(scope="module")
def theta() -> Weights:
    torch.set_num_threads(1)
    return averaged(FedAvg(2), "train", ForgetRequest(), initial_weights(small_spec(4))).weights


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("cohort", [None, 2])
def test_retraining_is_the_reference_bit_for_bit(
    request_: ForgetRequest, cohort: int | None, theta: Weights
) -> None:
    fit = Fit(lr=1e-2)
    found = served(Retrain(cohort=cohort, fit=fit), request_, theta)
    reference = averaged(FedAvg(3, cohort, fit), "train", request_, initial_weights(small_spec(4)))
    assert same_bits(found.weights, reference.weights)
    assert counted(found.cost) == counted(reference.cost)
    fewer = served(Retrain(rounds=1, cohort=cohort, fit=fit), request_, theta)
    assert fewer.cost.rounds == 1


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_fine_tuning_is_averaging_from_the_trained_model(request_: ForgetRequest, theta: Weights) -> None:
    found = served(FineTune(2, fit=Fit(lr=1e-2)), request_, theta)
    assert found.cost.gradient_passes == 2 * (400 - sum(map(len, request_.rows.values())))
    after = averaged(AveragedAs(2, fit=Fit(lr=1e-2), phase="fine-tune"), "request-1", request_, theta)
    assert same_bits(found.weights, after.weights)


# ---- NoT


def test_not_turns_the_first_layer_and_nothing_else() -> None:
    weights = {
        "conv.weight": np.array([[1.0, -2.0, 3.0]]),
        "conv.bias": np.array([4.0]),
        "norm.weight": np.array([5.0]),
        "fc.weight": np.array([[6.0]]),
    }
    turned = negated(weights, 1, biases=False)
    assert turned["conv.weight"].tolist() == [[-1, 2, -3]]
    assert {k: v.tolist() for k, v in turned.items() if k != "conv.weight"} == {
        "conv.bias": [4], "norm.weight": [5], "fc.weight": [[6]],
    }  # fmt: skip
    two = negated(weights, 2, biases=True)
    assert [v.tolist() for v in two.values()] == [[[-1, 2, -3]], [-4], [5], [[-6]]]


def test_not_is_fine_tuning_from_there(theta: Weights) -> None:
    request = REQUESTS["one leaves"]
    found = served(WeightNegation(1, fit=Fit(lr=1e-2)), request, theta)
    turned = {k: -v if k == "extractor.0.weight" else v for k, v in theta.items()}
    after = served(FineTune(1, fit=Fit(lr=1e-2)), request, turned)
    assert same_bits(found.weights, after.weights)


# ---- PGD


def test_the_reference_of_pgd_is_the_mean_without_the_withdrawing_client() -> None:
    """(3 (4,5,6) - (6,3,0)) / 2 = (3, 6, 9); one with half of the rows: 2 theta - theta_u."""
    assert numbers(without(three(4, 5, 6), [(1 / 3, three(6, 3, 0))])) == [3, 6, 9]
    assert numbers(without(three(4, 5, 6), [(0.5, three(6, 3, 0))])) == [2, 7, 12]
    assert numbers(without(three(4, 5, 6), [(0.25, three(6, 3, 0)), (0.25, three(0, 1, 2))])) == [5, 8, 11]


class Three(nn.Module):
    """A model of three numbers, drawn so that their distance to (3, 6, 9) is 3 times the seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.a = nn.Linear(3, 1, bias=False)
        self.a.weight = nn.Parameter(torch.tensor([3.0 + 3 * seed, 6.0, 9.0]))

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_the_radius_is_a_third_of_the_mean_distance_to_random_models(tmp_path: Path) -> None:
    reference = three(3, 6, 9)
    assert mean_distance(reference, Three, [1, 2, 3]) == pytest.approx(6)
    history = recorded(tmp_path, [{0: (6, 3, 0), 1: (0, 0, 0), 2: (1, 1, 1)}], dict.fromkeys(range(3), 10))
    state = state_of(three(4, 5, 6), history)
    state = replace(state, inputs=replace(state.inputs, fresh=lambda seed: Three(2)))
    method = Pgd(draws=4)
    begun = method.server_init(state, leaving(dict.fromkeys(range(3), 10), 0))
    assert numbers(begun.weights) == [3, 6, 9]
    up, after = method.phases(leaving(dict.fromkeys(range(3), 10), 0))
    assert method.config(up, begun)["radius"] == pytest.approx(2)
    assert "radius" not in method.config(after, begun)


def test_projection_by_hand() -> None:
    """From (1,1,1) to (4,5,1) is 5: a ball of 2.5 ends half-way; a larger one changes nothing."""
    centre, point = (
        [torch.tensor([1.0]), torch.tensor([1.0, 1.0])],
        [torch.tensor([4.0]), torch.tensor([5.0, 1.0])],
    )
    project(point, centre, 5.0)
    assert [t.tolist() for t in point] == [[4], [5, 1]]
    project(point, centre, 2.5)
    assert [t.tolist() for t in point] == [[2.5], [3, 1]]


def test_ascent_stays_in_its_ball_and_stops_when_it_is_wrong_enough(theta: Weights) -> None:
    spec = small_spec(4)
    dataset = build(spec.federation).dataset
    rows = build(spec.federation).client(0).labelled()

    def climbed(settings: Ascend, radius: float) -> tuple[dict[str, float], float]:
        model = spec.model.build(dataset.shape, dataset.num_classes, 0)
        model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in theta.items()})
        log = RowAccessLog.empty(len(rows))
        found, cost = climb(model, rows.logged_in(log), settings, radius, torch_stream(0, "test"))
        assert int(log.labels) == cost.gradient_passes
        return found, cost.gradient_passes

    whole, passes = climbed(Ascend(enough=0.0, epochs=2, lr=0.1), 0.1)
    assert passes <= 200
    assert 0.08 < whole["distance"] <= 0.1 + 1e-5
    stopped, fewer = climbed(Ascend(enough=0.9, epochs=2), 10.0)
    assert fewer < passes
    assert stopped["accuracy"] <= 0.9


def test_ascent_goes_through_networks_of_several_channels() -> None:
    """Their weights lie otherwise in memory."""
    rows = build(small_spec(4).federation).client(0).labelled()
    model = Cnn(channels=(2, 3), dims=8, hidden=4).build((1, 8, 8), 10, 0)
    found, _ = climb(model, rows, Ascend(enough=0.0, epochs=1), 0.01, torch_stream(0, "test"))
    assert found["distance"] == pytest.approx(0.01, rel=1e-3)


def test_a_share_of_an_epoch_ends_after_a_whole_batch() -> None:
    for settings, rows, steps in (
        (Fit(batch_size=32), 100, 4), (Fit(batch_size=32, share=0.5), 100, 2), (Fit(share=0.1), 100, 1),
        (Fit(batch_size=10, epochs=3, share=0.5), 100, 15), (Fit(share=0.5), 0, 0),
    ):  # fmt: skip
        assert settings.steps(rows) == steps
    grid, registry = enrolled(small_spec(4))
    half = FedAvg(1, fit=Fit(batch_size=32, share=0.5))
    result = half.run(grid, initial_weights(small_spec(4)), Stage("train", 0, registry))
    assert result.cost.gradient_passes == result.cost.labels_read == 4 * 64


def test_a_registry_after_its_request_has_its_rows_gone() -> None:
    registry = ClientRegistry(
        SIZES, SIZES, REQUESTS["rows go"], ForgetRequest.of_clients([1], SIZES), trained=5
    )
    assert registry.after_request.request == ForgetRequest()
    assert registry.after_request.removed.withdrawn == {1}
    assert registry.after_request.retain_rows(2) == registry.retain_rows(2) == 60
