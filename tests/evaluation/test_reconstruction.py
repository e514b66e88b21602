"""Reconstruction: it finds rows in a change that is their gradient, and none in another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from fedlaf.core.types import Weights
from fedlaf.data import Digits, LabelledRows, as_input
from fedlaf.evaluation import EvaluationSplits, Predictions, Reconstruction
from fedlaf.evaluation.measure_function import MeasuredModel
from fedlaf.evaluation.reconstruction import changed, likeness, similarity, variation
from fedlaf.models import Classifier, SmallCnn

DIGITS = Digits(train_rows=40, test_rows=20).load().train
NOTHING = Predictions(*[np.zeros((0, 10))] * 3)


def network() -> Classifier:
    return SmallCnn().build((1, 8, 8), 10, 0)


def weights_of(model: Classifier) -> Weights:
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def ascended(rows: LabelledRows, rate: float = 1e-2) -> tuple[Weights, Weights]:
    """A model before and after one step up the slope of its loss on `rows`: what forgetting them may be."""
    model = network().eval()
    before = weights_of(model)
    loss = functional.cross_entropy(model(as_input(rows.x, torch.device("cpu"))).logits, rows.y)
    loss.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(parameter.grad, alpha=rate)
    return before, weights_of(model)


def measured(rows: LabelledRows, before: Weights | None, after: Weights, **keys: int) -> dict[str, float]:
    splits = EvaluationSplits(DIGITS, rows, DIGITS)
    model = MeasuredModel(after, network, {}, before)
    return dict(Reconstruction(**keys).measure(NOTHING, splits, model))


def test_rows_come_out_of_their_own_gradient_and_not_out_of_another() -> None:
    rows = DIGITS.at(torch.tensor([0, 5]))
    before, after = ascended(rows)
    found = measured(rows, before, after)
    _, elsewhere = ascended(DIGITS.at(torch.tensor([11, 23])))
    control = measured(rows, before, elsewhere)
    assert found["reconstruction_psnr"] > control["reconstruction_psnr"] + 4
    assert found["reconstruction_ssim"] > control["reconstruction_ssim"] + 0.3
    assert measured(rows, before, after) == found


def test_nothing_is_measured_where_there_is_nothing_to_invert() -> None:
    rows = DIGITS.at(torch.arange(3))
    before, after = ascended(rows)
    assert measured(rows, before, before) == {}
    assert measured(rows, None, after) == {}
    assert measured(rows, before, after, most_rows=2) == {}
    floats = LabelledRows(rows.x.float() / 255.0, rows.y)
    assert measured(floats, before, after) == {}


def test_what_changed_is_trainable_and_not_the_same() -> None:
    before = {"a.weight": np.ones(2, np.float32), "b.weight": np.ones(2, np.float32),
              "b.running_mean": np.ones(2, np.float32)}  # fmt: skip
    after = {name: array.copy() for name, array in before.items()}
    after["a.weight"][1] = 3
    after["b.running_mean"][0] = 9
    found = changed(before, after)
    assert list(found) == ["a.weight"]
    assert found["a.weight"].tolist() == [0, 2]


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


@pytest.mark.parametrize(("height", "width"), [(8, 9), (5, 4)])
def test_ssim_by_its_definition(height: int, width: int) -> None:
    """Window by window, with numpy's covariances."""
    one, two = drawn(2, height, width), 0.5 * drawn(2, height, width) + 0.3 * drawn(2, height, width, seed=1)
    side, values = min(7, height, width), []
    for channel in range(2):
        for i in range(height - side + 1):
            for j in range(width - side + 1):
                a, b = (x[channel, i : i + side, j : j + side].ravel() for x in (one, two))
                (va, common), (_, vb) = np.cov(a, b)
                light = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
                values.append(light * (2 * common + 9e-4) / (va + vb + 9e-4))
    assert similarity(one, two) == pytest.approx(float(np.mean(values)))
    assert similarity(one, one) == pytest.approx(1.0)


def test_likeness_pairs_images_and_has_the_decibels_of_the_error() -> None:
    true = drawn(3, 1, 8, 8)
    assert likeness(true[[2, 0, 1]], true) == pytest.approx((100.0, 1.0))
    made = true[[2, 0, 1]] + 0.1
    psnr, ssim = likeness(made, true)
    assert psnr == pytest.approx(20.0)
    assert 0.5 < ssim < 1.0


def test_variation_by_hand() -> None:
    x = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    assert float(variation(x)) == pytest.approx((0.5 + 0.5) / 2 + (1.0 + 0.0) / 2)
