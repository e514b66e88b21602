"""Shares of classes that remain, from posteriors alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from fedlaf.objectives import label_shift
from fedlaf.objectives.label_shift import (
    GONE,
    counted_shares,
    likeliest_shares,
    posterior_cells,
    remaining_shares,
)


def drawn(classes: int, rows: int, stay: Tensor, spread: float, seed: int) -> tuple[Tensor, Tensor]:
    """Posteriors of retain and forget rows of a calibrated model: labels are drawn from the posteriors."""
    stream = torch.Generator().manual_seed(seed)
    posteriors = (torch.randn(rows, classes, generator=stream) / spread).softmax(1).double()
    labels = torch.multinomial(posteriors, 1, generator=stream).flatten()
    kept = torch.rand(rows, generator=stream) < stay[labels]
    return posteriors[kept], posteriors[~kept]


def estimated(retain: Tensor, forget: Tensor) -> Tensor:
    return remaining_shares(posterior_cells(retain), posterior_cells(forget))


@pytest.mark.parametrize("spread", [0.3, 0.6])
def test_likeliest_shares_of_a_calibrated_model_are_true_and_counted_ones_too_mild(spread: float) -> None:
    stay = torch.tensor([0.0, 0.3, 0.9, 1.0])
    sides = [posterior_cells(rows) for rows in drawn(4, 20_000, stay, spread, seed=1)]
    assert torch.allclose(likeliest_shares(*sides), stay.double(), atol=0.05)
    counted = counted_shares(*sides)
    assert (counted[:2] > stay[:2] + 0.05).all()
    both = remaining_shares(*sides)
    assert (both <= torch.maximum(likeliest_shares(*sides), counted)).all()
    assert torch.equal(both.argsort(), stay.argsort())


def test_certain_posteriors_are_counted() -> None:
    """Where each row's class is certain, all estimates are the ratio of counts, by the rule of succession."""
    retain = torch.eye(3).repeat_interleave(torch.tensor([6, 0, 4]), 0)
    forget = torch.eye(3).repeat_interleave(torch.tensor([2, 5, 0]), 0)
    expected = torch.tensor([7 / 10, 1 / 7, 5 / 6], dtype=torch.float64)
    sides = (posterior_cells(retain), posterior_cells(forget))
    for shares in (likeliest_shares, counted_shares):
        assert torch.allclose(shares(*sides), expected)
    assert torch.allclose(remaining_shares(*sides), expected * torch.tensor([1, 0, 1]))  # no row is left


def test_the_estimate_is_the_most_likely_one() -> None:
    """A general optimiser on the same likelihood, over the box, finds nothing better."""
    stay = torch.tensor([0.2, 0.8, 0.6])
    sides = [posterior_cells(rows) for rows in drawn(3, 400, stay, 0.5, seed=3)]
    retain, forget = (side.numpy() for side in sides)

    def unlikely(shares: np.ndarray) -> float:
        total = 0.0
        for side, weights in ((retain, shares), (forget, 1 - shares)):
            rows = side.sum(1)
            there = rows > 0
            total -= float(rows[there] @ np.log((side[there] @ weights) / rows[there] + 1e-300))
            total -= float(np.log(weights).sum())  # the one row more of each class
        return total

    other = minimize(unlikely, [0.5] * 3, bounds=[(1e-9, 1 - 1e-9)] * 3)
    found = likeliest_shares(*sides).numpy()
    assert unlikely(found) <= other.fun + 1e-6
    assert np.allclose(found, other.x, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000), gone=st.integers(0, 4),
    spread=st.floats(0.2, 3.0), sure=st.floats(0.0, 3.0),
)  # fmt: skip
def test_removing_a_class_never_raises_it(seed: int, gone: int, spread: float, sure: float) -> None:
    """However badly the model knows it: rows of the class are what goes, so its logit falls most."""
    stream = torch.Generator().manual_seed(seed)
    logits = torch.randn(500, 5, generator=stream) / spread
    forget = torch.randn(60, 5, generator=stream) / spread
    forget[:, gone] += sure
    logits[:, gone] -= sure
    shares = estimated(logits.softmax(1), forget.softmax(1))
    assert ((shares >= 0) & (shares <= 1)).all()
    if sure > 0.5:
        shift = label_shift.logit_shift(shares)
        assert shift[gone] <= 0
        assert int(shift.argmin()) == gone


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(0, 60), classes=st.integers(1, 30), least=st.integers(1, 12), seed=st.integers(0, 99))
def test_no_sum_is_of_fewer_rows_than_the_floor(rows: int, classes: int, least: int, seed: int) -> None:
    """And none is lost, unless all rows together are fewer."""
    stream = torch.Generator().manual_seed(seed)
    posteriors = (3 * torch.randn(rows, classes, generator=stream)).softmax(1).double()
    cells = posterior_cells(posteriors, least)
    behind = cells.sum(1)
    assert torch.allclose(cells.sum(0), posteriors.sum(0))
    assert (behind[behind > 0] >= min(least, rows) - 1e-3).all()


def test_a_class_without_a_row_has_a_finite_shift() -> None:
    shift = label_shift.logit_shift(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert shift.tolist() == pytest.approx([np.log(GONE) / 2, -np.log(GONE) / 2])
