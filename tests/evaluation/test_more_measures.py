"""ToW, accuracies by class, distances of representations, ZRF and rho: by hand and on their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlaf.evaluation import spaced, zero_retrain_forgetting
from fedlaf.evaluation.measures import accuracy_by_class, l2_distance, rho, tug_of_war


def test_accuracy_by_class_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.6, 0.4, 0], [0.1, 0.9, 0]])
    found = accuracy_by_class(probabilities, np.array([0, 0, 0, 1]), 3)
    assert found[:2] == (pytest.approx(200 / 3), 100)
    assert math.isnan(found[2])
    assert all(math.isnan(v) for v in accuracy_by_class(probabilities[:0], np.array([], int), 3))


def test_tow_by_hand() -> None:
    assert tug_of_war([90, 50, 80], [90, 50, 80]) == 1
    assert tug_of_war([80, 70, 80], [90, 50, 85]) == pytest.approx(0.9 * 0.8 * 0.95)
    assert tug_of_war([100, 0, 0], [0, 0, 0]) == 0
    assert math.isnan(tug_of_war([float("nan"), 0, 0], [0, 0, 0]))


def test_l2_is_the_mean_euclidean_distance() -> None:
    left, right = np.array([[3, 4], [1, 1]], np.float32), np.array([[0, 0], [1, 1]], np.float32)
    assert l2_distance(left, right) == 2.5
    assert math.isnan(l2_distance(left[:0], right[:0]))


def test_zrf_is_one_for_predictions_of_the_untrained_model_and_zero_for_their_opposite() -> None:
    untrained = np.array([[0.5, 0.5, 0], [1, 0, 0]])
    assert zero_retrain_forgetting(untrained, untrained) == 1
    assert zero_retrain_forgetting(np.array([[0, 0, 1.0], [0, 1, 0]]), untrained) == pytest.approx(0)
    one = zero_retrain_forgetting(np.array([[1.0, 0, 0]]), np.array([[0.5, 0.5, 0]]))
    # m = (3/4, 1/4): JS = (log2(4/3) + log2(2/3)/2 + log2(2)/2) / 2
    assert one == pytest.approx(1 - (math.log2(4 / 3) + math.log2(2 / 3) / 2 + 0.5) / 2)
    assert math.isnan(zero_retrain_forgetting(untrained[:0], untrained[:0]))


def test_rho_is_over_the_ninetieth_percentile() -> None:
    spread = [float(i) for i in range(11)]
    assert rho(18.0, spread) == 2
    assert rho(1.0, [0.5]) == 2
    assert math.isnan(rho(1.0, []))
    assert rho(1.0, [0.0]) == math.inf
    assert rho(0.0, [0.0]) == 0


@given(st.integers(0, 300), st.integers(1, 300))
def test_spaced_positions_are_in_order_within_and_even(rows: int, most: int) -> None:
    found = spaced(rows, most)
    assert len(found) == min(rows, most)
    assert len(set(found.tolist())) == len(found)
    assert all(0 <= place < rows for place in found)
    steps = np.diff(found)
    assert len(found) < 2 or steps.max() - steps.min() <= 1
