"""Shares of classes that remain, from how surely rows are predicted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedlaf.objectives import label_shift
from fedlaf.objectives.label_shift import GONE, LEVELS, LOWEST, WIDTH, remaining_shares, sureness


def of_odds(odds: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Posteriors [N, C] whose `predicted` class has these log odds; the other classes are alike."""
    top = odds.double().sigmoid()[:, None]
    rest = ((1 - top) / (classes - 1)).expand(-1, classes)
    return rest.scatter(1, predicted[:, None], top)


def rows_of(classes: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Posteriors [N, C] of a model that knows well what it is sure of, and labels: a row is another class's
    with a probability that falls with its log odds.
    """
    stream = torch.Generator().manual_seed(seed)
    predicted = torch.randint(classes, (rows,), generator=stream)
    odds = 2 + 6 * torch.rand(rows, generator=stream)
    wrong = torch.rand(rows, generator=stream) < 0.4 * (2 - odds).exp()
    other = (predicted - 1) % classes
    return of_odds(odds, predicted, classes), torch.where(wrong, other, predicted)


def estimated(posteriors: Tensor, stays: Tensor) -> Tensor:
    return remaining_shares(sureness(posteriors[stays]), sureness(posteriors[~stays]))


@pytest.mark.parametrize("seed", range(3))
def test_shares_are_true_where_the_surest_rows_are_not_confused(seed: int) -> None:
    posteriors, labels = rows_of(4, 20_000, seed)
    share = torch.tensor([0.15, 0.3, 0.9, 1.0])
    stays = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed)) < share[labels]
    found = estimated(posteriors, stays)
    assert torch.allclose(found, share.double(), atol=0.03)
    # Of all rows that are predicted as class 0 many more stay: those of class 3, which all do.
    assert float(stays[posteriors.argmax(1) == 0].double().mean()) > 0.19


def test_a_class_of_which_only_confusions_stay_is_gone() -> None:
    posteriors, labels = rows_of(4, 8_000, 5)
    found = estimated(posteriors, labels != 2)
    assert found[2] == 0
    assert torch.allclose(found[[0, 1, 3]], torch.ones(3, dtype=torch.float64), atol=0.02)


def test_a_class_of_which_fewer_than_ten_rows_are_left_is_gone() -> None:
    """Unless that is the most of it: then it was small before."""
    retain, forget = torch.zeros(3, LEVELS).double(), torch.zeros(3, LEVELS).double()
    retain[:, 40], forget[:, 40] = torch.tensor([9.0, 10.0, 9.0]), torch.tensor([20.0, 20.0, 5.0])
    found = remaining_shares(retain, forget)
    assert found[0] == 0
    assert found[1] == pytest.approx(1 / 3, abs=0.02)
    assert found[2] == pytest.approx(9 / 14, abs=0.02)


def test_rows_are_counted_by_predicted_class_and_level() -> None:
    odds, predicted = torch.tensor([0.1, 0.2, 0.3, -9.0, 99.0]), torch.tensor([1, 1, 1, 0, 2])
    found = sureness(of_odds(odds, predicted, 3)[:3])
    first = int(-LOWEST / WIDTH)
    assert found.shape == (3, LEVELS)
    assert found[1, first] == 2
    assert found[1, first + 1] == 1
    assert found.sum() == 3
    ends = sureness(torch.tensor([[0.0, 0.0, 1.0], [0.34, 0.33, 0.33]]))
    assert ends[2, -1] == 1
    assert ends[0, math.floor((math.log(0.34 / 0.66) - LOWEST) / WIDTH)] == 1
    assert sureness(torch.zeros(0, 3)).shape == (3, LEVELS)


def test_a_row_that_keeps_its_class_is_as_sure_as_it_was() -> None:
    """And one that is predicted as another class counts there."""
    before = of_odds(torch.tensor([5.0, 5.0]), torch.tensor([0, 0]), 3)
    after = of_odds(torch.tensor([1.0, 2.0]), torch.tensor([0, 1]), 3)
    expected = sureness(torch.stack([before[0], after[1]]))
    assert torch.equal(sureness(before, after), expected)


def test_the_surest_quarter_counts_and_of_a_level_the_part_that_is_needed() -> None:
    """By hand: of 100 rows the surest 25 are 16 of which 12 stay, and 9 of 24 of which a third stays."""
    retain, forget = torch.zeros(2, LEVELS).double(), torch.zeros(2, LEVELS).double()
    retain[0, 50], forget[0, 50] = 12, 4
    retain[0, 40], forget[0, 40] = 8, 16
    retain[0, 30], forget[0, 30] = 20, 40
    retain[1, 30] = 100
    found = remaining_shares(retain, forget)
    rest = 140 / 200  # what one row more stays with: as often as all rows do
    assert found[0] == pytest.approx((12 + 3 + rest) / 26)
    assert found[1] == pytest.approx((25 + rest) / 26)


def test_a_class_that_nothing_is_predicted_as_stays_as_all_rows_do() -> None:
    retain, forget = torch.zeros(3, LEVELS).double(), torch.zeros(3, LEVELS).double()
    retain[0, 40], forget[0, 40] = 60, 40
    assert remaining_shares(retain, forget)[1:].tolist() == pytest.approx([0.6, 0.6])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 8), rows=st.integers(1, 300))
def test_shares_lie_in_the_box_and_parts_of_rows_add_up(seed: int, classes: int, rows: int) -> None:
    stream = torch.Generator().manual_seed(seed)
    posteriors = (4 * torch.randn(rows, classes, generator=stream)).softmax(1)
    stays = torch.rand(rows, generator=stream) < torch.rand(1, generator=stream)
    shares = estimated(posteriors, stays)
    assert ((shares >= 0) & (shares <= 1)).all()
    parts = sum(sureness(part) for part in posteriors.chunk(3))
    assert torch.equal(parts, sureness(posteriors))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), gone=st.integers(0, 4), sure=st.floats(0.5, 3.0))
def test_removing_a_class_lowers_it_most(seed: int, gone: int, sure: float) -> None:
    """However badly the model knows it: rows of the class are what goes."""
    stream = torch.Generator().manual_seed(seed)
    logits = torch.randn(500, 5, generator=stream)
    forget = torch.randn(60, 5, generator=stream)
    forget[:, gone] += 2 * sure
    logits[:, gone] -= sure
    shares = remaining_shares(sureness(logits.softmax(1)), sureness(forget.softmax(1)))
    shift = label_shift.logit_shift(shares)
    assert shift[gone] <= 0
    assert int(shift.argmin()) == gone


def test_a_class_without_a_row_has_a_finite_shift() -> None:
    shift = label_shift.logit_shift(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert shift.tolist() == pytest.approx([np.log(GONE) / 2, -np.log(GONE) / 2])
