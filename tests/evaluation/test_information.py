"""IDI: the bound on cases whose information is known, and the control that forgets in its head alone."""

from __future__ import annotations

from dataclasses import replace
from math import log, log2

import numpy as np
import pytest
import torch
from support.federations import enrolled, initial_weights, small_spec

from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.data import Digits, Iid
from fedlaf.data.federation import build
from fedlaf.evaluation import InformationDifference, MeasuredModel, Predictions, splits_for
from fedlaf.evaluation.information import PREFIX, bound, difference, info_nce, pooled_outputs
from fedlaf.evaluation.inside import layers_alike
from fedlaf.method.contract import Stage
from fedlaf.models import Classifier, SmallCnn
from fedlaf.objectives import DistilHead, Fit
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.head_distill import HeadDistillation


def drawn(rows: int, dims: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, dims, generator=torch.Generator().manual_seed(seed))


def test_the_bound_by_hand() -> None:
    """Two rows, one of each answer; scores that tell them give log 2 in the limit, equal ones nothing."""
    y = torch.tensor([0, 1])
    assert float(bound(torch.zeros(2, 2), y)) == pytest.approx(0.0, abs=1e-6)
    assert float(bound(torch.tensor([[50.0, 0.0], [0.0, 50.0]]), y)) == pytest.approx(log(2), rel=1e-4)
    odds = torch.tensor([[log(3), 0.0], [0.0, log(3)]])
    assert float(bound(odds, y)) == pytest.approx(log(3 / 2))
    uneven = torch.tensor([0, 0, 0, 1])  # the answers of the batch weigh as often as they come
    assert float(bound(torch.zeros(4, 2), uneven)) == pytest.approx(0.0, abs=1e-6)


def test_information_that_is_known() -> None:
    """Features of nothing; of the answer itself, one bit; and of the answer with a tenth of it wrong."""
    assert info_nce(drawn(400, 8, 0), drawn(400, 8, 1)) < 0.05
    apart = drawn(400, 8, 0)
    apart[:, 0] += 20.0
    assert info_nce(apart, drawn(400, 8, 1)) == pytest.approx(1.0, abs=0.02)
    noisy = [torch.full((1000, 1), sign) for sign in (1.0, -1.0)]
    for side, seed in zip(noisy, (3, 4), strict=True):
        flipped = torch.rand(1000, generator=torch.Generator().manual_seed(seed)) < 0.1
        side[flipped] *= -1
    wrong = 0.1
    expected = 1 + wrong * log2(wrong) + (1 - wrong) * log2(1 - wrong)
    assert info_nce(*noisy) == pytest.approx(expected, abs=0.06)
    assert np.isnan(info_nce(drawn(7, 2, 0), drawn(7, 2, 1)))


def test_the_same_features_give_the_same_bits() -> None:
    state = torch.random.get_rng_state()
    first, second = (info_nce(drawn(50, 4, 0), drawn(50, 4, 1) + 1) for _ in range(2))
    assert first == second
    assert torch.equal(state, torch.random.get_rng_state())


def seen(**bits: float) -> Predictions:
    nothing = np.zeros((1, 2))
    grams = {f"{PREFIX}{name}": np.array([value], np.float32) for name, value in bits.items()}
    return Predictions(nothing, nothing, nothing, grams=grams)


def test_only_what_a_layer_tells_beyond_the_retrained_model_counts() -> None:
    retrained, original = seen(a=0.2, b=0.5), seen(a=0.7, b=0.4)
    assert difference(original, retrained) == pytest.approx(0.5)
    models = {"original": original, "unlearned": seen(a=0.45, b=0.1), "retrained": retrained}

    def measured(model: str) -> dict[str, float]:
        held = MeasuredModel({}, lambda: None, models)  # type: ignore[arg-type, return-value]
        return dict(InformationDifference().measure(models[model], None, held))  # type: ignore[arg-type]

    assert measured("original") == {"information_difference": pytest.approx(1.0)}
    assert measured("unlearned") == {"information_difference": pytest.approx(0.5)}
    assert measured("retrained") == {"information_difference": 0.0}
    models["original"] = seen(a=0.21, b=0.5)
    assert measured("unlearned") == {}
    assert layers_alike(original.grams, retrained.grams) == {}  # they are no Gram matrices


def test_layers_are_pooled_to_few_places() -> None:
    model: Classifier = SmallCnn().build((1, 8, 8), 10, 0)
    x = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    convolution = model.extractor.get_submodule("0")
    found = pooled_outputs(model, convolution, x)
    with torch.no_grad():
        out = convolution(x.float() / 255)
    expected = out.reshape(5, 8, 4, 2, 4, 2).mean((3, 5)).flatten(1)
    torch.testing.assert_close(found, expected)


def test_the_negative_control_does_not_pass() -> None:
    """A head that names the removed class no more: all information is still there, 1 by this measure."""
    spec = small_spec(4, source=Digits(train_rows=800, test_rows=200), backdoor=None, partition=Iid())
    federation = build(spec.federation)
    request = ForgetRequest.of_classes([3], federation.holdings)
    splits = splits_for(federation, request, ForgetRequest())
    grid, registry = enrolled(spec)
    train = FedAvg(10, fit=Fit(lr=3e-3))
    start = initial_weights(spec)
    original = train.run(grid, start, Stage("train", 0, registry)).weights
    asked = replace(registry, request=request)
    retrained = train.run(grid, start, Stage("train", 0, asked.after_request)).weights
    method = HeadDistillation(rounds=3, distil=DistilHead(lr=0.02))
    unlearned = method.run(grid, original, Stage("request-1", 0, asked)).weights
    measure = InformationDifference()
    nothing = np.zeros((1, 10))

    def told(weights: Weights) -> Predictions:
        found = measure.arrays(SmallCnn().build((1, 8, 8), 10, 0), weights, splits)
        return Predictions(nothing, nothing, nothing, grams=found)

    models = {"original": told(original), "unlearned": told(unlearned), "retrained": told(retrained)}
    held = MeasuredModel({}, lambda: None, models)  # type: ignore[arg-type, return-value]
    found = measure.measure(models["unlearned"], splits, held)
    # Where the original tells no more than the retrained model there is nothing to compare with.
    assert found == {} or found["information_difference"] == pytest.approx(1.0)
    assert {k: v.tolist() for k, v in models["original"].grams.items()} == {
        k: v.tolist() for k, v in models["unlearned"].grams.items()
    }
