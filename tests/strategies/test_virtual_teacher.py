"""Teachers that take a class back, smoothing, and the negative control that forgets in the head alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.federations import enrolled, initial_weights, same_bits, small_spec
from torch.nn import functional

from fedlaf.client.steps.smoothing import smoothed
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.data import Digits, Iid, Rows
from fedlaf.data.federation import build
from fedlaf.evaluation import EvaluationSplits, Predictions, Probe, inside, predict, splits_for
from fedlaf.method.contract import Stage, StageResult
from fedlaf.models import Classifier, SmallCnn
from fedlaf.models.arrays import load_weights
from fedlaf.objectives import DistilForgotten, DistilHead, Fit, Smooth, VirtualTeacher, logit_losses
from fedlaf.strategies.base.strategy import ForgetStrategy
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.head_distill import HeadDistillation
from fedlaf.strategies.jit import JustInTime
from fedlaf.strategies.virtual_teacher import LabelFreeVirtualTeaching, VirtualTeaching

SPEC = small_spec(4, rows=1000, source=Digits(train_rows=1000, test_rows=300), backdoor=None, partition=Iid())
SIZES = dict.fromkeys(range(4), 250)
LEAVES = ForgetRequest.of_clients([0], SIZES)


@pytest.fixture(scope="module")
def trained() -> Weights:
    grid, registry = enrolled(SPEC)
    return FedAvg(12, fit=Fit(lr=3e-3)).run(grid, initial_weights(SPEC), Stage("train", 0, registry)).weights


@pytest.fixture(scope="module")
def splits() -> EvaluationSplits:
    return splits_for(build(SPEC.federation), LEAVES, ForgetRequest())


def served(method: ForgetStrategy, weights: Weights) -> StageResult:
    grid, registry = enrolled(SPEC)
    return method.run(grid, weights, Stage("request-1", 0, replace(registry, request=LEAVES)))


def network() -> Classifier:
    return SmallCnn().build((1, 8, 8), 10, 0)


def seen(weights: Weights, splits: EvaluationSplits) -> Predictions:
    return predict(network(), weights, splits, represented=1000)


def right(found: Predictions, splits: EvaluationSplits, kind: str = "forget") -> float:
    return float((found.of(kind).argmax(1) == getattr(splits, kind).y.numpy()).mean())


def test_a_class_is_taken_back_by_hand() -> None:
    logits, labels = torch.tensor([[3.0, -1.0, 2.0], [0.5, 4.0, 1.0]]), torch.tensor([0, 2])
    assert logit_losses.lowered(logits, labels).tolist() == [[-1.0, -1.0, 2.0], [0.5, 4.0, 0.5]]
    excluded = logit_losses.without_class(logits, labels).softmax(1)
    assert excluded[0].tolist() == pytest.approx([0.0, *torch.tensor([-1.0, 2.0]).softmax(0).tolist()])


@pytest.mark.parametrize("excluded", [False, True])
def test_one_step_of_distillation_is_the_obvious_one(trained: Weights, excluded: bool) -> None:
    """The one client with forgotten rows, all in one batch, plain gradient descent."""
    distil = DistilForgotten(optimizer="sgd", lr=0.05, batch_size=250, steps=1)
    method = VirtualTeaching(teacher=VirtualTeacher(excluded=excluded), distil=distil, recover_rounds=0)
    found = served(method, trained).weights
    model = network()
    load_weights(model, trained)
    rows = build(SPEC.federation).client(0).rows
    logits = model(rows.x.float() / 255).logits
    teacher = logits.detach().clone()
    teacher[torch.arange(250), rows.y] = -1e30 if excluded else teacher.min(1).values
    loss = functional.kl_div(logits.log_softmax(1), teacher.softmax(1), reduction="batchmean")
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        expected = trained[name] - 0.05 * parameter.grad.numpy()
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-6)


def test_the_label_of_a_forgotten_row_loses(trained: Weights, splits: EvaluationSplits) -> None:
    before = seen(trained, splits)
    assert right(before, splits) > 0.85
    method = VirtualTeaching(distil=DistilForgotten(lr=1e-2), distil_rounds=5, recover_rounds=0)
    assert right(seen(served(method, trained).weights, splits), splits) < 0.5


def test_its_label_free_form_holds_remaining_rows(trained: Weights, splits: EvaluationSplits) -> None:
    method = LabelFreeVirtualTeaching(rounds=5)
    result = served(method, trained)
    found, before = seen(result.weights, splits), seen(trained, splits)
    assert result.cost.labels_read == 0
    assert right(found, splits) < right(before, splits)
    assert right(found, splits, "retain") > 0.8


def test_the_negative_control_passes_what_looks_at_answers_and_no_probe(trained: Weights) -> None:
    """No answer names the removed class, representations keep their bits: a probe finds it in them."""
    federation = build(SPEC.federation)
    request = ForgetRequest.of_classes([3], federation.holdings)
    splits = splits_for(federation, request, ForgetRequest())
    method = HeadDistillation(rounds=10, distil=DistilHead(lr=0.02))
    grid, registry = enrolled(SPEC)
    result = method.run(grid, trained, Stage("request-1", 0, replace(registry, request=request)))
    extractor = [name for name in trained if name.startswith("extractor.")]
    assert same_bits({k: result.weights[k] for k in extractor}, {k: trained[k] for k in extractor})
    assert result.cost.labels_read == 0
    before, after = seen(trained, splits), seen(result.weights, splits)
    assert right(before, splits) > 0.8
    assert right(after, splits) < 0.02
    assert right(after, splits, "retain") > right(before, splits, "retain") - 0.05
    probe = [Probe().measure(model, splits, None)["probe_forget"] for model in (before, after)]  # type: ignore[arg-type]
    assert probe[0] == probe[1] > 90
    rows = {"forget": splits.forget, "retain": splits.retain}
    heads = [inside.head_relearned(network(), weights, rows) for weights in (trained, result.weights)]
    assert heads[0] == heads[1]


def test_slopes_by_hand() -> None:
    clean, noisy = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    noise = torch.tensor([[[[1.0, 2.0], [2.0, 4.0]]]])
    assert Smooth().slopes(clean, noisy, noise).tolist() == [1.0]


def test_smoothing_steps_are_the_obvious_ones(trained: Weights) -> None:
    rows: Rows = build(SPEC.federation).client(0).rows.at(torch.arange(40)).unlabelled()
    settings = Smooth(lr=0.3, batch_size=40, steps=2, sigma=0.5, samples=3)
    model, plain = network(), network()
    for one in (model, plain):
        load_weights(one, trained)
    _, cost = smoothed(model, rows, settings, torch.Generator().manual_seed(5))
    assert (cost.gradient_passes, cost.forward_passes) == (80, 240)
    stream = torch.Generator().manual_seed(5)
    orders = [torch.randperm(40, generator=stream)]
    for step in range(2):
        x = rows.x[orders[step]].float() / 255
        noises = [0.5 * torch.randn(x.shape, generator=stream) for _ in range(3)]
        clean = plain(x).logits
        with torch.no_grad():
            apart = [plain(x + noise).logits for noise in noises]
        losses = [
            (clean - there).norm(dim=1) / noise.flatten(1).norm(dim=1)
            for there, noise in zip(apart, noises, strict=True)
        ]
        gradients = torch.autograd.grad(torch.stack(losses).mean(), list(plain.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(plain.parameters(), gradients, strict=True):
                parameter.sub_(0.3 * gradient)
        orders.append(torch.randperm(40, generator=stream))
    for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_smoothing_reads_no_other_row(trained: Weights) -> None:
    result = served(JustInTime(smooth=Smooth(steps=2, samples=2)), trained)
    assert (result.cost.labels_read, result.cost.retain_rows_read) == (0, 0)
    assert {client for record in result.records for client in record.asked} == {0}
