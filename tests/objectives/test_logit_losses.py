"""Losses on logits against numbers worked out by hand, and by an independent library."""

from __future__ import annotations

from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from torch import tensor

from fedlaf.core.errors import InvalidValue
from fedlaf.objectives import logit_losses
from fedlaf.objectives.logit_objectives import (
    Batch,
    DistilBoth,
    Hold,
    LabelledBatch,
    Local,
    NegGrad,
    Push,
    Shrink,
)

EVEN = [0.0, 0.0]  # probabilities 1/2, 1/2
ODD = [0.0, log(3.0)]  # 1/4, 3/4
NOTHING = torch.empty(0, 2)
KL = 0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.75)  # of ODD from EVEN: 0.1438


def labelled(student: list[list[float]], labels: list[int], teacher: list[list[float]]) -> LabelledBatch:
    return LabelledBatch(tensor(student), tensor(teacher), tensor(labels))


def none() -> LabelledBatch:
    return LabelledBatch(NOTHING, NOTHING, torch.empty(0, dtype=torch.int64))


def test_divergence_of_three_quarters_from_a_half() -> None:
    assert logit_losses.divergence(tensor([EVEN]), tensor([ODD])).item() == pytest.approx(KL)
    assert logit_losses.divergence(tensor([ODD]), tensor([ODD])).item() == pytest.approx(0, abs=1e-7)


def test_a_temperature_of_two_softens_both_and_counts_four_times() -> None:
    twice = [2 * value for value in ODD]
    assert logit_losses.divergence(tensor([EVEN]), tensor([twice]), 2.0).item() == pytest.approx(4 * KL)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.floats(-20, 20)] * 6), min_size=1, max_size=5), st.floats(0.5, 5))
def test_divergence_is_scipys_relative_entropy(rows: list[tuple[float, ...]], temperature: float) -> None:
    both = torch.tensor(rows, dtype=torch.float64)
    teacher, student = both[:, :3], both[:, 3:]
    found = logit_losses.divergence(teacher, student, temperature)
    p, q = (softmax(side.numpy() / temperature, axis=1) for side in (teacher, student))
    expected = temperature**2 * rel_entr(p, q).sum(1)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-6, atol=1e-9)


def test_unlearning_cross_entropy_of_three_quarters_is_minus_log_five_eighths() -> None:
    found = logit_losses.unlearning_cross_entropy(tensor([ODD, ODD]), tensor([1, 0]))
    assert found.tolist() == pytest.approx([-log(1 - 0.75 / 2), -log(1 - 0.25 / 2)])


def test_unlearning_cross_entropy_lies_between_nothing_and_log_two_and_has_a_gradient_that_ends() -> None:
    sure = tensor([[0.0, 100.0], [100.0, 0.0]], requires_grad=True)
    found = logit_losses.unlearning_cross_entropy(sure, tensor([1, 1]))
    assert found.tolist() == pytest.approx([log(2), 0.0])
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert sure.grad is not None
    assert sure.grad.abs().max() < 1e-6


def test_the_label_is_never_the_nearest_wrong_class() -> None:
    logits = tensor([[5.0, 1.0, 3.0], [0.0, 2.0, 1.0]])
    assert logit_losses.without_class(logits, tensor([0, 1])).argmax(1).tolist() == [2, 2]
    assert logit_losses.without_class(logits, tensor([1, 0])).argmax(1).tolist() == [0, 1]


def test_the_mean_of_nothing_is_nothing() -> None:
    assert logit_losses.mean(torch.empty(0)).item() == 0
    assert logit_losses.mean(tensor([1.0, 2.0, 6.0])).item() == pytest.approx(3)


# ---- objectives


def test_ascent_is_minus_the_cross_entropy() -> None:
    forget = labelled([ODD, ODD], [1, 0], [[], []])
    assert NegGrad().loss(none(), forget).item() == pytest.approx((log(0.75) + log(0.25)) / 2)


def test_a_step_of_ascent_on_one_scalar() -> None:
    """Logits (0, w) at w = 0, label 1: CE falls with w by 1/2, so SGD at 0.1 takes w to -0.05."""
    w = torch.nn.Parameter(torch.zeros(1))
    module = torch.nn.ParameterList([w])
    optimiser = NegGrad(optimizer="sgd", lr=0.1).optimiser(module)
    student = torch.stack([torch.zeros(1), w], dim=1)
    forget = LabelledBatch(student, torch.empty(1, 0), tensor([1]))
    NegGrad().loss(none(), forget).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    assert w.item() == pytest.approx(-0.05)


def test_scrub_pushes_by_minus_kl_and_holds_by_kl_and_cross_entropy() -> None:
    forget = Batch(tensor([ODD]), tensor([EVEN]))
    assert Push(temperature=1.0).loss(Batch(NOTHING, NOTHING), forget).item() == pytest.approx(-KL)
    retain = labelled([ODD], [1], [EVEN])
    hold = Hold(alpha=0.5, gamma=2.0, temperature=1.0)
    assert hold.loss(retain, none()).item() == pytest.approx(0.5 * KL - 2 * log(0.75))


def test_distillation_is_the_mean_over_the_rows_of_both_kinds() -> None:
    retain = Batch(tensor([ODD, ODD]), tensor([ODD, ODD]))
    forget = Batch(tensor([ODD]), tensor([EVEN]))
    nobody = Batch(NOTHING, NOTHING)
    assert DistilBoth().loss(retain, forget).item() == pytest.approx(KL / 3)
    assert DistilBoth().loss(nobody, forget).item() == pytest.approx(KL)
    assert DistilBoth().loss(retain, nobody).item() == pytest.approx(0, abs=1e-7)


def test_shrinking_is_the_cross_entropy_to_the_nearest_wrong_class() -> None:
    teacher = logit_losses.without_class(tensor([[9.0, 0.0], [9.0, 0.0]]), tensor([0, 1]))
    forget = Batch(tensor([ODD, ODD]), teacher)
    found = Shrink().loss(Batch(NOTHING, NOTHING), forget).item()
    assert found == pytest.approx(-(log(0.75) + log(0.25)) / 2)  # the first goes to 1, the second to 0


@pytest.mark.parametrize(("steps", "rows", "expected"), [(None, 64, 2), (None, 65, 3), (7, 65, 7)])
def test_without_a_number_of_steps_it_is_one_pass(steps: int | None, rows: int, expected: int) -> None:
    assert Local(batch_size=32, steps=steps).count(rows) == expected


@pytest.mark.parametrize(
    ("kind", "more", "key"),
    [
        (Local, {"optimizer": "lion"}, "optimizer"),
        (Local, {"lr": 0.0}, "lr"),
        (Local, {"steps": 0}, "steps"),
        (Local, {"clip": 0.0}, "clip"),
        (Push, {"temperature": 0.0}, "temperature"),
        (Hold, {"alpha": 0.0, "gamma": 0.0}, "gamma"),
        (DistilBoth, {"temperature": -1.0}, "temperature"),
    ],
)
def test_wrong_values_are_refused_by_the_name_of_their_key(
    kind: type[Local], more: dict[str, object], key: str
) -> None:
    with pytest.raises(InvalidValue, match=rf"^{key}: expected"):
        kind(**more)
