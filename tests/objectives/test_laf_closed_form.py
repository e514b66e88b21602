"""The closed form against brute force, and its parts on small exact cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedlaf.models import Gaussian
from fedlaf.objectives import laf_closed_form as closed
from fedlaf.objectives.laf_closed_form import ClosedForm, Whitening


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gradient_descent_on_the_same_objective_ends_there() -> None:
    """sum_r |dW phi~|^2 + sum_f |dW phi~ - (t - e)|^2 + lambda |dW|^2, minimised by brute force."""
    retain, forget, change = random(40, 6), random(15, 6, seed=1), random(15, 3, seed=2)
    whole = closed.unpacked(closed.gram(retain) + closed.gram(forget))
    found = closed.ridge_solution(change.T @ closed.with_one(forget), whole, ridge=0.05)
    damping = 0.05 * whole.diagonal().mean()
    moved = torch.zeros(3, 7, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.SGD([moved], lr=2e-3)
    for _ in range(4_000):
        loss = (closed.with_one(retain) @ moved.T).square().sum()
        loss = loss + (closed.with_one(forget) @ moved.T - change).square().sum()
        loss = loss + damping * moved.square().sum()
        descent.zero_grad()
        loss.backward()
        descent.step()
    assert torch.allclose(found, moved.detach(), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 20), dims=st.integers(1, 6), parts=st.integers(1, 4), seed=st.integers(0, 99))
def test_grams_add_up_and_unpack(rows: int, dims: int, parts: int, seed: int) -> None:
    x = random(rows, dims, seed=seed)
    extended = torch.cat([x, torch.ones(rows, 1)], 1)
    summed = torch.stack([closed.gram(part) for part in x.tensor_split(parts)]).sum(0)
    assert torch.allclose(closed.unpacked(summed), extended.T @ extended, atol=1e-12)
    assert summed[-1] == rows


def test_h_is_the_gaussian_of_the_package() -> None:
    e = random(500, 5) @ random(5, 5, seed=1) + 3
    h = closed.whitening(closed.gram(e))
    other = Gaussian(5).double()
    other.fit(e.mean(0), e.T @ e / len(e))
    assert torch.allclose(h.mean, other.shift, atol=1e-9)
    assert torch.allclose(h.root, other.whiten, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), quantile=st.floats(0.01, 0.5))
def test_the_threshold_is_the_quantile_to_its_precision(seed: int, quantile: float) -> None:
    errors = random(300, seed=seed).exp()
    found = closed.error_threshold(closed.error_counts(errors), quantile)
    kept = float((errors <= found).double().mean())
    assert kept >= 1 - quantile - 1e-12
    just_below = found * 2 ** (-1 / closed.PER_OCTAVE)
    assert float((errors < just_below).double().mean()) < 1 - quantile + 1e-12


def planted(share: float, rows: int = 400) -> tuple[Tensor, Whitening, Tensor]:
    """Rows [N, 8], a share of which has 12 added along the first axis; h of rows without it; which."""
    e = random(rows, 8)
    h = closed.whitening(closed.gram(random(4000, 8, seed=5)))
    marked = torch.arange(rows) < share * rows
    e[marked, 0] += 12
    return e, h, marked


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_marked_rows_lose_the_mark_and_others_nothing(share: float) -> None:
    e, h, marked = planted(share)
    rule = ClosedForm(threshold=4.0)
    units = h.units(e)
    outlier = h.outlier(units, rule)
    assert torch.equal(outlier, marked)
    direction = closed.outlier_direction(closed.outlier_sums(units, outlier), rule)
    change = closed.target_changes(units, outlier, direction, h, clip=rule.clip)
    assert (change[~marked] == 0).all()
    target = h.units(e + change)
    assert float((target[marked] @ direction).max()) <= rule.clip + 1e-9
    assert float((e + change)[marked, 0].mean()) < 3
    other = random(8, seed=9)
    other -= (other @ direction) * direction
    assert torch.allclose(target @ other, units @ other, atol=1e-9)  # nothing but the component changes


def test_rare_outliers_have_no_direction() -> None:
    """Up to twice as many as among retain rows are nothing special."""
    e, h, _ = planted(0.09)
    rule = ClosedForm(threshold=4.0)
    units = h.units(e)
    direction = closed.outlier_direction(closed.outlier_sums(units, h.outlier(units, rule)), rule)
    assert (direction == 0).all()


def test_fewer_outliers_than_the_floor_are_none() -> None:
    e, h, _ = planted(0.5, rows=30)
    units = h.units(e)
    assert not h.outlier(units, ClosedForm(threshold=4.0, min_rows=16)).any()
    assert int(h.outlier(units, ClosedForm(threshold=4.0, min_rows=15)).sum()) == 15
    assert int(h.outlier(units, ClosedForm(threshold=4.0, min_rows=16, secure_aggregation=True)).sum()) == 15


def test_the_clip_is_the_quantile_of_a_normal_component() -> None:
    assert ClosedForm(outlier_quantile=0.05).clip == pytest.approx(1.645, abs=1e-3)
    drawn = np.random.default_rng(0).normal(size=200_000)
    assert np.quantile(drawn, 0.9) == pytest.approx(ClosedForm(outlier_quantile=0.1).clip, abs=0.02)
