"""The closed form against brute force, and its parts on small exact cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedlaf.objectives import laf_closed_form as closed
from fedlaf.objectives.laf_closed_form import ClosedForm


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


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), quantile=st.floats(0.01, 0.5))
def test_the_threshold_is_the_quantile_to_its_precision(seed: int, quantile: float) -> None:
    errors = random(300, seed=seed).exp()
    found = closed.error_threshold(closed.error_counts(errors), quantile)
    kept = float((errors <= found).double().mean())
    assert kept >= 1 - quantile - 1e-12
    just_below = found * 2 ** (-1 / closed.PER_OCTAVE)
    assert float((errors < just_below).double().mean()) < 1 - quantile + 1e-12


def test_the_clip_is_the_quantile_of_a_normal_component() -> None:
    assert ClosedForm(outlier_quantile=0.05).clip == pytest.approx(1.645, abs=1e-3)
    drawn = np.random.default_rng(0).normal(size=200_000)
    assert np.quantile(drawn, 0.9) == pytest.approx(ClosedForm(outlier_quantile=0.1).clip, abs=0.02)


def test_a_projection_keeps_inner_products_in_the_mean() -> None:
    rule, phi = ClosedForm(projection=300), random(2, 1000)
    matrix = rule.projected(1000, torch.Generator().manual_seed(1))
    assert matrix is not None
    assert matrix.shape == (1000, 300)
    assert matrix.dtype == torch.float64
    lengths = (phi @ matrix).square().sum(1) / phi.square().sum(1)
    assert ((lengths - 1).abs() < 4 * (2 / 300) ** 0.5).all()  # 4 deviations of a chi-square over k


@pytest.mark.parametrize("projection", [None, 1000, 1200])
def test_no_more_features_than_projections_are_taken_as_they_are(
    projection: int | None,
) -> None:
    assert ClosedForm(projection=projection).projected(1000, torch.Generator()) is None
