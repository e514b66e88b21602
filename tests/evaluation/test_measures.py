"""Measures against formulas written out, and at their edges."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedlaf.evaluation.measures import accuracy, backdoor_success, js_divergence

FEW = settings(max_examples=60, deadline=None)
Array = npt.NDArray[np.float64]


def distributions(rows: int, classes: int) -> st.SearchStrategy[Array]:
    """Rows of probabilities [rows, classes], zeros among them."""
    counts = arrays(np.int64, (rows, classes), elements=st.integers(0, 6))
    return counts.map(lambda n: (n + (n.sum(1, keepdims=True) == 0)) * 1.0).map(
        lambda n: n / n.sum(1, keepdims=True)
    )


pairs = st.tuples(st.integers(1, 5), st.integers(2, 6)).flatmap(
    lambda shape: st.tuples(distributions(*shape), distributions(*shape))
)


def entropy_bits(p: Array) -> float:
    return -sum(x * math.log2(x) for x in p.tolist() if x > 0)


def kl_bits(p: Array, q: Array) -> float:
    return sum(x * math.log2(x / y) for x, y in zip(p.tolist(), q.tolist(), strict=True) if x > 0)


# ---- Jensen-Shannon


@FEW
@given(pairs)
def test_js_is_the_mean_divergence_from_the_true_mixture_in_bits(pair: tuple[Array, Array]) -> None:
    expected = 0.0
    for p, q in zip(*pair, strict=True):
        mixture = (p + q) / 2
        expected += (kl_bits(p, mixture) + kl_bits(q, mixture)) / 2 / len(pair[0])
    assert js_divergence(*pair) == pytest.approx(expected, abs=1e-9)


@FEW
@given(pairs)
def test_js_is_the_entropy_of_the_mixture_minus_the_mean_entropy(pair: tuple[Array, Array]) -> None:
    gains = [
        entropy_bits((p + q) / 2) - (entropy_bits(p) + entropy_bits(q)) / 2
        for p, q in zip(*pair, strict=True)
    ]
    assert js_divergence(*pair) == pytest.approx(float(np.mean(gains)), abs=1e-9)


@FEW
@given(pairs)
def test_js_is_symmetric_and_lies_from_zero_to_one(pair: tuple[Array, Array]) -> None:
    left, right = pair
    found = js_divergence(left, right)
    assert 0 <= found <= 1 + 1e-12
    assert found == pytest.approx(js_divergence(right, left), abs=1e-12)


@FEW
@given(pairs)
def test_js_of_identical_predictions_is_zero(pair: tuple[Array, Array]) -> None:
    assert js_divergence(pair[0], pair[0].copy()) == pytest.approx(0, abs=1e-12)


def test_js_of_known_rows() -> None:
    sure, other, even = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])
    assert js_divergence(sure, other) == pytest.approx(1)
    # H(3/4, 1/4) - (0 + 1) / 2
    assert js_divergence(sure, even) == pytest.approx(2 - 0.75 * math.log2(3) - 0.5)
    both = js_divergence(np.vstack([sure, sure]), np.vstack([other, sure]))
    assert both == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
def test_js_of_nearly_identical_predictions_is_nearly_zero_and_quiet(seed: int) -> None:
    # Rounding leaves sums of -1e-17 under a root: no warning may come of it, and no NaN.
    stream = np.random.default_rng(seed)
    p = stream.dirichlet(np.ones(10), 200)
    q = p * (1 + 1e-9 * stream.standard_normal(p.shape))
    found = js_divergence(p, q / q.sum(1, keepdims=True))
    assert 0 <= found < 1e-12


def test_js_takes_rows_from_single_precision() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), 3)
    q = np.random.default_rng(1).dirichlet(np.ones(4), 3)
    narrow = js_divergence(p.astype(np.float32).astype(float), q.astype(np.float32).astype(float))
    assert narrow == pytest.approx(js_divergence(p, q), abs=1e-6)


def test_js_of_a_model_that_predicts_nan_is_not_that_of_a_perfect_one() -> None:
    nothing = np.full((3, 4), np.nan)
    assert math.isnan(js_divergence(nothing, np.full((3, 4), 0.25)))


# ---- accuracies


def test_accuracy_is_the_percentage_of_right_rows() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3], [0.5, 0.3, 0.2]])
    assert accuracy(p, np.array([0, 2, 0, 1])) == 50.0
    assert accuracy(p, p.argmax(1)) == 100.0
    assert accuracy(p, (p.argmax(1) + 1) % 3) == 0.0


def test_backdoor_success_is_the_percentage_taken_for_the_target() -> None:
    p = np.array([[0.7, 0.3], [0.1, 0.9], [0.2, 0.8], [0.4, 0.6]])
    assert backdoor_success(p, np.full(4, 1)) == 75.0
    assert backdoor_success(p, np.full(4, 0)) == 25.0
    assert backdoor_success(p, np.full(4, 7)) == 0.0
    assert backdoor_success(p, np.array([0, 1, 0, 0])) == 50.0  # two triggers, each with its own target


def test_without_rows_a_measure_is_nan() -> None:
    nothing = np.empty((0, 3))
    assert math.isnan(accuracy(nothing, np.empty(0, np.int64)))
    assert math.isnan(backdoor_success(nothing, np.empty(0, np.int64)))
    assert math.isnan(js_divergence(nothing, nothing))
