"""Importances, dampening and masks: by hand, and against the obvious computation on all rows in one place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.federations import enrolled, furthest, initial_weights, same_bits, small_spec
from torch import nn
from torch.nn import functional

from fedlaf.client import ClientSpec
from fedlaf.client.steps.importances import absolute_gradients, squared_gradients, summed_over_batches
from fedlaf.client.steps.masked import only, other_classes
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.data.federation import build
from fedlaf.method.contract import Stage
from fedlaf.models import Classifier, SmallCnn
from fedlaf.models.arrays import load_weights, weights_of
from fedlaf.objectives import Fit, Importance, LabelFreeImportance, RandomLabels, Relabel
from fedlaf.strategies.base.strategy import ForgetStrategy
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.salun import SalUn, largest
from fedlaf.strategies.ssd import LossFreeSsd, Ssd, dampened

SIZES = dict.fromkeys(range(4), 100)
ALPHA = 1.2


def trained() -> tuple[ClientSpec, Weights]:
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    fit = FedAvg(rounds=2, fit=Fit(lr=3e-3))
    return spec, fit.run(grid, initial_weights(spec), Stage("train", 0, registry)).weights


def served(method: ForgetStrategy, spec: ClientSpec, weights: Weights, request: ForgetRequest) -> Weights:
    grid, registry = enrolled(spec)
    return method.run(grid, weights, Stage("request-1", 0, replace(registry, request=request))).weights


def test_dampening_by_hand() -> None:
    """Above 2 times the importance of all: to 1.5 of it over that of the forgotten, and never larger."""
    weights = {"w": np.array([8.0, 8.0, 8.0, 8.0], np.float32), "count": np.array(3)}
    whole, forgotten = {"w": np.array([1.0, 1.0, 0.0, 1.0])}, {"w": np.array([6.0, 2.0, 5.0, 2.5])}
    found = dampened(weights, whole, forgotten, 2.0, 1.5)
    assert found["w"].tolist() == pytest.approx([8.0 * 1.5 / 6.0, 8.0, 0.0, 8.0 * 1.5 / 2.5])
    assert found["w"].dtype == np.float32
    assert found["count"] == 3
    assert dampened(weights, whole, forgotten, 2.0, 9.0)["w"].tolist() == [8.0, 8.0, 0.0, 8.0]
    nowhere = {"w": np.zeros(4)}
    assert dampened(weights, nowhere, nowhere, 2.0, 1.0)["w"].tolist() == [8.0] * 4


@pytest.mark.parametrize("kind", ["labels", "label-free"])
def test_importances_of_single_rows_are_the_plain_gradients(kind: str) -> None:
    """Batches of one row: the sum over rows of what autograd gives for each."""
    spec, weights = trained()
    model: Classifier = SmallCnn().build((1, 8, 8), 10, 0)
    load_weights(model, weights)
    rows = build(spec.federation).client(0).rows.at(torch.arange(6))
    matter = squared_gradients if kind == "labels" else absolute_gradients
    given = rows if kind == "labels" else rows.unlabelled()
    found = summed_over_batches(model, given, torch.arange(6).split(1), matter)  # type: ignore[type-var, arg-type]
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for x, y in zip(rows.x, rows.y, strict=True):
        logits = model(x[None].float() / 255).logits
        loss = functional.cross_entropy(logits, y[None]) if kind == "labels" else logits.norm() ** 2
        for (name, _), slope in zip(
            model.named_parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
        ):
            expected[name] += slope**2 if kind == "labels" else slope.abs()
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name].numpy(), rtol=1e-4, atol=1e-7)


REQUESTS = {
    "a client": ForgetRequest.of_clients([0], SIZES),
    "rows of two": ForgetRequest.of_samples({0: range(30), 2: range(90)}, SIZES),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("method", [Ssd, LossFreeSsd], ids=["ssd", "lfssd"])
def test_a_federation_gives_the_centralised_solution(method: type[Ssd], request_: ForgetRequest) -> None:
    """With batches of one row, order does not matter: all rows in one place give the same."""
    spec, weights = trained()
    settings = Importance(1) if method is Ssd else LabelFreeImportance(1)
    found = served(method(importance=settings, alpha=ALPHA), spec, weights, request_)
    model: Classifier = SmallCnn().build((1, 8, 8), 10, 0)
    load_weights(model, weights)
    matter = squared_gradients if method is Ssd else absolute_gradients
    sums, counts = [], []
    federation = build(spec.federation)
    for forgotten in (True, False):
        held = []
        for client in range(4):
            asked = set(request_.of(client))
            held.append([(client, at) for at in range(100) if (at in asked) == forgotten])
        pairs = [pair for one in held for pair in one]
        whole = [federation.client(k).rows.at(torch.tensor([at])) for k, at in pairs]
        total = {name: np.zeros(p.shape) for name, p in model.named_parameters()}
        for row in whole:
            given = row if method is Ssd else row.unlabelled()
            for name, value in matter(model.eval(), given).items():  # type: ignore[operator]
                total[name] += value.double().numpy()
        sums.append(total)
        counts.append(len(pairs))
    mean = {name: (sums[0][name] + sums[1][name]) / sum(counts) for name in sums[0]}
    of_forgotten = {name: array / counts[0] for name, array in sums[0].items()}
    expected = dampened(weights, mean, of_forgotten, ALPHA, 1.0)
    assert furthest(found, expected) < 1e-5
    assert furthest(found, weights) > 1e-3


def test_a_share_of_all_that_none_is_above_changes_nothing() -> None:
    spec, weights = trained()
    assert same_bits(served(Ssd(alpha=1e6), spec, weights, REQUESTS["a client"]), weights)


def test_the_mask_holds_the_largest_of_all_arrays() -> None:
    gradient = {"a": np.array([[1.0, -8.0]]), "b": np.array([3.0, -2.0])}
    found = largest(gradient, 0.5)
    assert found["a"].tolist() == [[False, True]]
    assert found["b"].tolist() == [True, False]
    assert sum(int(array.sum()) for array in largest(gradient, 1.0).values()) == 4
    assert sum(int(array.sum()) for array in largest(gradient, 1e-9).values()) == 1


def test_weights_that_the_mask_holds_keep_their_bits_under_adam() -> None:
    model = nn.Linear(3, 2)
    before = weights_of(model)
    mask = {"weight": torch.tensor([[True, False, True], [False, False, True]]), "bias": torch.zeros(2) > 0}
    adam = torch.optim.Adam(model.parameters(), lr=0.1)
    with only(model, mask):
        for _ in range(3):
            adam.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            adam.step()
    for name, array in weights_of(model).items():
        assert ((array != before[name]) == mask[name].numpy()).all()
    adam.zero_grad()
    model(torch.ones(4, 3)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().min() > 0 for p in model.parameters())


def test_random_classes_are_never_a_rows_own_and_all_others_come() -> None:
    labels = torch.arange(4).repeat(200)
    drawn = other_classes(labels, 4, torch.Generator().manual_seed(0))
    assert not (drawn == labels).any()
    for label in range(4):
        assert set(drawn[labels == label].tolist()) == set(range(4)) - {label}


def test_salun_changes_the_masked_weights_alone() -> None:
    spec, weights = trained()
    method = SalUn(labels=RandomLabels(share=0.4), relabel=Relabel(lr=1e-3, steps=3), rounds=2, share=0.3)
    found = served(method, spec, weights, REQUESTS["a client"])
    rows = build(spec.federation).client(0).rows
    model: Classifier = SmallCnn().build((1, 8, 8), 10, 0)
    load_weights(model, weights)
    functional.cross_entropy(model(rows.x.float() / 255).logits, rows.y, reduction="sum").backward()  # type: ignore[no-untyped-call]
    slopes = {name: p.grad.abs() for name, p in model.named_parameters() if p.grad is not None}
    least = torch.quantile(torch.cat([slope.flatten() for slope in slopes.values()]), 0.7)
    for name, slope in slopes.items():
        changed = found[name] != weights[name]
        assert not changed[(slope < 0.999 * least).numpy()].any()
        sure = (slope > 1.001 * least).numpy()
        assert changed[sure].mean() > 0.9
