"""Each loss against an independent oracle, its gradient against differences, its edges by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine
from scipy.special import logsumexp
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from fedlaf.models import Reconstruction
from fedlaf.objectives import laf_losses

FEW = settings(max_examples=50, deadline=None)
floats = st.floats(-20, 20, allow_subnormal=False)
distances = st.lists(st.floats(0, 2), min_size=1, max_size=8)


def rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fit(n: int = 5, dims: int = 4, latent: int = 3) -> Reconstruction:
    return Reconstruction(rows(0, n, dims), rows(1, n, dims), rows(2, n, latent), rows(3, n, latent))


def exact(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---- the VAE's loss


@pytest.mark.parametrize("kl_weight", [0.0, 0.025, 1.0])
def test_elbo_is_the_squared_error_plus_the_weighted_divergence(kl_weight: float) -> None:
    found = fit()
    expected = 0.0
    for decoded, target, mean, log_variance in zip(*(t.numpy() for t in found), strict=True):
        normal = Normal(torch.tensor(mean), torch.tensor(np.exp(log_variance) ** 0.5))
        divergence = float(kl_divergence(normal, Normal(0.0, 1.0)).sum())
        expected += (((decoded - target) ** 2).sum() + kl_weight * divergence) / 5
    assert float(laf_losses.elbo(found, kl_weight)) == pytest.approx(expected, rel=1e-12)


def test_its_divergence_is_what_sampling_estimates() -> None:
    mean, log_variance = exact([[0.7, -0.4]]), exact([[0.5, -1.2]])
    found = Reconstruction(torch.zeros(1, 2), torch.zeros(1, 2), mean, log_variance)
    deviation = (log_variance / 2).exp()
    z = mean + deviation * rows(7, 200_000, 2)
    log_ratio = Normal(mean, deviation).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    assert float(laf_losses.elbo(found, 1.0)) == pytest.approx(float(log_ratio.sum(1).mean()), abs=0.02)


def test_elbo_is_zero_for_a_perfect_standard_fit() -> None:
    target = rows(0, 3, 4)
    assert (
        float(laf_losses.elbo(Reconstruction(target, target, torch.zeros(3, 2), torch.zeros(3, 2)), 1.0)) == 0
    )


def test_elbo_of_no_rows_is_zero() -> None:
    assert float(laf_losses.elbo(fit(n=0), 1.0)) == 0


# ---- reconstruction errors and their score


def test_reconstruction_error_is_a_number_a_row() -> None:
    found = fit()
    squared = ((found.decoded.numpy() - found.target.numpy()) ** 2).tolist()
    torch.testing.assert_close(
        laf_losses.reconstruction_error(found, "sum"), exact([sum(row) for row in squared])
    )
    means = exact([sum(row) / 4 for row in squared])
    torch.testing.assert_close(laf_losses.reconstruction_error(found, "mean"), means)
    assert laf_losses.reconstruction_error(fit(n=0), "sum").shape == (0,)


@FEW
@given(st.floats(0, 1e6))
def test_the_score_is_phi_and_lies_from_one_up_to_e(error: float) -> None:
    found = float(laf_losses.score(exact([error])))
    assert found == pytest.approx(math.exp(error / (error + 1)), rel=1e-12)
    assert 1 <= found < math.e


@FEW
@given(st.floats(0, 1e4), st.floats(1e-3, 1e4))
def test_the_score_grows_with_the_error(error: float, more: float) -> None:
    small, large = laf_losses.score(exact([error, error + more]))
    assert float(small) < float(large)


def test_the_score_stays_finite_where_exp_alone_would_not() -> None:
    assert float(laf_losses.score(torch.tensor(1e30))) == pytest.approx(math.e)
    assert float(laf_losses.score(torch.tensor(0.0))) == 1


@FEW
@given(st.lists(st.floats(0, 100), max_size=8))
def test_the_two_terms_of_unlearning_are_sums_of_opposite_signs(errors: list[float]) -> None:
    expected = sum(math.exp(m / (m + 1)) for m in errors)
    assert float(laf_losses.unlearning_retain(exact(errors))) == pytest.approx(expected)
    assert float(laf_losses.unlearning_forget(exact(errors))) == pytest.approx(-expected)


@FEW
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5)), max_size=8))
def test_weights_multiply_the_scores_of_forget_rows(pairs: list[tuple[float, float]]) -> None:
    errors, weights = exact([m for m, _ in pairs]), exact([w for _, w in pairs])
    expected = -sum(w * math.exp(m / (m + 1)) for m, w in pairs)
    assert float(laf_losses.unlearning_forget(errors, weights)) == pytest.approx(expected)


# ---- representation alignment


def test_cosine_distance_is_scipys() -> None:
    student, teacher = rows(0, 6, 5), rows(1, 6, 5)
    expected = [cosine(s, t) for s, t in zip(student.numpy(), teacher.numpy(), strict=True)]
    np.testing.assert_allclose(laf_losses.cosine_distance(student, teacher).numpy(), expected, rtol=1e-10)


def test_cosine_distance_of_known_directions() -> None:
    e = exact([[3.0, 4.0]])
    for other, expected in (([6.0, 8.0], 0.0), ([-3.0, -4.0], 2.0), ([-4.0, 3.0], 1.0)):
        assert float(laf_losses.cosine_distance(exact([other]), e)) == pytest.approx(expected, abs=1e-12)
    assert float(laf_losses.cosine_distance(torch.zeros_like(e), e)) == 1  # no direction at all: not NaN


@FEW
@given(distances, st.integers(0, 40), st.floats(0.05, 50))
def test_the_forget_term_is_scipys_logsumexp(held: list[float], retain: int, temperature: float) -> None:
    expected = -retain * logsumexp(np.array(held) / temperature)
    found = laf_losses.alignment_forget(exact(held), retain, temperature)
    assert float(found) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@FEW
@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 5)), min_size=1, max_size=8), st.floats(0.1, 50))
def test_weights_multiply_inside_the_logarithm(pairs: list[tuple[float, float]], temperature: float) -> None:
    held, weights = np.array(pairs).T
    expected = -3 * logsumexp(held / temperature, b=weights)
    found = laf_losses.alignment_forget(exact(held.tolist()), 3, temperature, exact(weights.tolist()))
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@FEW
@given(distances, st.integers(1, 40), st.floats(0.1, 50))
def test_weights_of_one_are_the_published_term(held: list[float], retain: int, temperature: float) -> None:
    d = exact(held)
    weighted = laf_losses.alignment_forget(d, retain, temperature, torch.ones_like(d))
    torch.testing.assert_close(weighted, laf_losses.alignment_forget(d, retain, temperature))
    torch.testing.assert_close(
        laf_losses.unlearning_forget(d, torch.ones_like(d)), laf_losses.unlearning_forget(d)
    )


@FEW
@given(distances, st.integers(1, 40), st.floats(0.1, 50), floats)
def test_a_shift_of_all_distances_shifts_the_term(
    held: list[float], retain: int, temperature: float, shift: float
) -> None:
    # logsumexp(d + c) = logsumexp(d) + c: the term is -|B_r| c / tau further.
    d = exact(held)
    before = laf_losses.alignment_forget(d, retain, temperature)
    after = laf_losses.alignment_forget(d + shift, retain, temperature)
    assert float(after - before) == pytest.approx(-retain * shift / temperature, rel=1e-9, abs=1e-9)


def test_the_forget_term_does_not_overflow_for_a_small_temperature() -> None:
    found = laf_losses.alignment_forget(torch.tensor([1.0, 2.0]), 1, 1e-3)  # exp(2000) is infinite
    assert float(found) == pytest.approx(-2000)


def test_a_row_of_weight_zero_is_left_out_with_a_finite_gradient() -> None:
    d = exact([0.3, 1.9, 0.8]).requires_grad_()
    found = laf_losses.alignment_forget(d, 2, 1.0, exact([1.0, 0.0, 1.0]))
    without = laf_losses.alignment_forget(exact([0.3, 0.8]), 2, 1.0)
    torch.testing.assert_close(found.detach(), without, atol=1e-6, rtol=0)
    (gradient,) = torch.autograd.grad(found, d)
    assert torch.isfinite(gradient).all()
    assert abs(float(gradient[1])) < 1e-6


def test_the_retain_term_is_the_sum_of_distances() -> None:
    assert float(laf_losses.alignment_retain(exact([0.5, 0.25, 2.0]))) == 2.75


# ---- edges and gradients


def test_empty_batches_give_zero_with_a_gradient_to_follow() -> None:
    nothing = torch.empty(0, dtype=torch.float64, requires_grad=True)
    for value in (
        laf_losses.unlearning_retain(nothing),
        laf_losses.unlearning_forget(nothing),
        laf_losses.unlearning_forget(nothing, torch.empty(0)),
        laf_losses.alignment_retain(nothing),
        laf_losses.alignment_forget(nothing, 4, 1.0),
        laf_losses.alignment_forget(nothing, 0, 1.0, torch.empty(0)),
    ):
        assert value.shape == ()
        assert value.item() == 0
        (gradient,) = torch.autograd.grad(value, nothing)
        assert gradient.shape == (0,)
    assert laf_losses.cosine_distance(torch.empty(0, 4), torch.empty(0, 4)).shape == (0,)


def test_gradients_are_those_of_finite_differences() -> None:
    error, forget = rows(0, 4).square().requires_grad_(), rows(1, 3).square().requires_grad_()
    weights, teacher = rows(2, 3).exp(), rows(4, 4, 5)
    parts = tuple(t.requires_grad_() for t in fit(3))
    student = rows(3, 4, 5).requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda *held: laf_losses.elbo(Reconstruction(*held), 0.3), parts)
    assert check(
        lambda *held: laf_losses.reconstruction_error(Reconstruction(*held, *parts[2:]), "mean"), parts[:2]
    )
    assert check(
        lambda *held: laf_losses.reconstruction_error(Reconstruction(*held, *parts[2:]), "sum"), parts[:2]
    )
    assert check(laf_losses.score, (error,))
    assert check(laf_losses.unlearning_retain, (error,))
    assert check(lambda m: laf_losses.unlearning_forget(m, weights), (forget,))
    assert check(lambda e: laf_losses.cosine_distance(e, teacher), (student,))
    assert check(laf_losses.alignment_retain, (error,))
    assert check(lambda d: laf_losses.alignment_forget(d, 4, 0.7), (forget,))
    assert check(lambda d: laf_losses.alignment_forget(d, 4, 0.7, weights), (forget,))
