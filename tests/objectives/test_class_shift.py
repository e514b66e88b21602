"""Predicted-class counts of forget rows, and the shift of logits and of representations that follows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedlaf.objectives.laf_targets import class_shift, predicted_counts, shift_of_representations

NONE = torch.zeros(99, dtype=torch.bool)
FEW = settings(max_examples=50, deadline=None)


def exact(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- predicted-class counts


def logits(probabilities: list[list[float]]) -> Tensor:
    return torch.tensor(probabilities).log()


def test_a_row_counts_for_its_class_and_against_it_where_the_model_doubts() -> None:
    said = logits([[0.9, 0.06, 0.04], [0.6, 0.3, 0.1], [0.3, 0.45, 0.25], [0.34, 0.33, 0.33]])
    # 0.9 and 0.6 count 1; 0.45 counts 2 * 0.45 - 1, 0.34 counts 2 * 0.34 - 1.
    np.testing.assert_allclose(predicted_counts(said, NONE[:4]).numpy(), [2 - 0.32, -0.1, 0], atol=1e-5)


def test_doubt_about_an_outlier_counts_nothing() -> None:
    said = logits([[0.9, 0.06, 0.04], [0.3, 0.45, 0.25]])
    assert predicted_counts(said, torch.tensor([True, True])).tolist() == [1, 0, 0]


def test_a_class_that_nobody_else_has_vanishes_but_none_takes_over() -> None:
    found = class_shift(exact(0, 0, 90, 90), exact(5000, -500, 0, 0), 2.5, 2.0)
    assert float(found[0] - found[2]) == pytest.approx(-12.5)
    assert float(found[1] - found[2]) == pytest.approx(2)


def test_half_is_enough_and_no_rows_count_nothing() -> None:
    assert predicted_counts(torch.zeros(1, 2), NONE[:1]).tolist() == [1, 0]
    assert predicted_counts(torch.empty(0, 3), NONE[:0]).tolist() == [0, 0, 0]


@FEW
@given(st.integers(0, 10**6), st.integers(0, 12), st.integers(2, 6))
def test_counts_are_the_sum_over_rows(seed: int, count: int, classes: int) -> None:
    said = rows(seed, count, classes).float() * 2
    expected = np.zeros(classes)
    for row in said.numpy():
        p = np.exp(row) / np.exp(row).sum()
        expected[p.argmax()] += 1 if p.max() >= 0.5 else 2 * p.max() - 1
    np.testing.assert_allclose(predicted_counts(said, NONE[:count]), expected, atol=1e-5)


# ---- the shift of classes

counts = st.lists(st.tuples(st.floats(0, 1e4), st.floats(-500, 500)), min_size=2, max_size=10)


@FEW
@given(counts, st.floats(0, 8), st.floats(0, 8))
def test_the_shift_is_its_formula_and_has_mean_zero(
    pairs: list[tuple[float, float]], strength: float, negative_weight: float
) -> None:
    remaining, forget = np.array(pairs).T
    found = class_shift(torch.tensor(remaining), torch.tensor(forget), strength, negative_weight).numpy()

    def of(odds: float) -> float:
        if odds <= 0:
            return negative_weight * min(-odds, 1)
        return -strength * (odds if odds <= 0.6 else min(0.6 + 0.6 * np.log(odds / 0.6), 5))

    plain = np.array([of(f / (r + 1)) for r, f in pairs])
    np.testing.assert_allclose(found, plain - plain.mean(), atol=1e-9)
    assert abs(found.mean()) < 1e-9


def test_without_strength_or_with_the_same_share_of_each_class_nothing_shifts() -> None:
    remaining, forget = exact(99, 9, 49), exact(10, -3, 0)
    assert class_shift(remaining, forget, 0.0, 0.0).tolist() == [0, 0, 0]
    even = class_shift(remaining, (remaining + 1) * 0.3, 4.0, 2.0)
    np.testing.assert_allclose(even, np.zeros(3), atol=1e-12)


def test_a_class_that_goes_falls_and_one_with_a_negative_count_rises() -> None:
    # Class 0 goes wholly, 1 in part, 2 not at all; 3 has a negative count.
    found = class_shift(exact(0, 90, 90, 90), exact(1000, 10, 0, -30), 1.0, 0.5)
    assert found[0] < found[1] < found[2] < found[3]
    assert float(found[0] - found[2]) == pytest.approx(-5)  # 1000 to 1, cut off
    assert float(found[3] - found[2]) == pytest.approx(0.5 * 30 / 91)


def test_where_most_of_a_class_goes_but_not_all_it_falls_less_than_in_proportion() -> None:
    # One row in five stays: odds 4, of which 0.6 (1 + ln(4 / 0.6)) count.
    found = class_shift(exact(99, 99), exact(400, 0), 1.0, 0.0)
    assert float(found[1] - found[0]) == pytest.approx(0.6 * (1 + np.log(4 / 0.6)))


@FEW
@given(st.floats(0, 1e3), st.floats(0, 1e3))
def test_the_more_of_a_class_goes_the_more_it_falls(some: float, more: float) -> None:
    fewer, further = sorted((some, more))
    falls = [float(class_shift(exact(9, 9), exact(removed, 0), 1.0, 1.0)[0]) for removed in (fewer, further)]
    assert falls[1] <= falls[0] <= 0


# ---- the shift of representations


@FEW
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(0, 8))
def test_a_linear_head_of_full_rank_shifts_its_logits_exactly(seed: int, classes: int, more: int) -> None:
    dims = classes + more
    head = linear(seed, dims, classes)
    shift = rows(seed + 2, classes)
    moved = shift_of_representations(head, shift, rows(seed + 3, dims))
    representation = rows(seed + 4, 3, dims)
    with torch.no_grad():
        changed = head(representation + moved) - head(representation)
    np.testing.assert_allclose(changed, shift.expand(3, -1), atol=1e-6)
    smallest = np.linalg.lstsq(head.weight.detach().numpy(), shift.numpy(), rcond=None)[0]
    np.testing.assert_allclose(moved, smallest, rtol=1e-6, atol=1e-8)


def test_where_dimensions_are_fewer_than_classes_the_shift_is_the_nearest_one() -> None:
    head, shift = linear(5, 3, 6), rows(6, 6)
    moved = shift_of_representations(head, shift, torch.zeros(3, dtype=torch.float64))
    weight = head.weight.detach().numpy()
    nearest = np.linalg.lstsq(weight, shift.numpy(), rcond=None)[0]
    np.testing.assert_allclose(moved, nearest, atol=1e-9)
    assert np.abs(weight @ moved.numpy() - shift.numpy()).max() > 0.01


def test_of_another_head_it_is_the_linear_part_at_the_anchor() -> None:
    head = nn.Sequential(linear(0, 5, 7), nn.Tanh(), linear(1, 7, 3))
    shift, anchor = rows(2, 3) * 0.1, rows(3, 5)
    moved = shift_of_representations(head, shift, anchor)
    first, second = head[0], head[2]
    with torch.no_grad():
        bend = 1 - torch.tanh(first(anchor)).square()
        slope = (second.weight * bend) @ first.weight
        np.testing.assert_allclose(moved, np.linalg.lstsq(slope, shift, rcond=None)[0], atol=1e-9)
        small = 1e-4
        changed = (head(anchor + small * moved) - head(anchor)) / small
    np.testing.assert_allclose(changed, shift, atol=1e-3)
    elsewhere = shift_of_representations(head, shift, anchor + 1)
    assert not torch.allclose(elsewhere, moved, atol=1e-3)
    assert all(p.grad is None for p in head.parameters())


def linear(seed: int, dims: int, classes: int) -> nn.Linear:
    built = nn.Linear(dims, classes).double()
    with torch.no_grad():
        built.weight.copy_(rows(seed, classes, dims))
        built.bias.copy_(rows(seed + 1, classes))
    return built
