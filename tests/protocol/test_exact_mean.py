"""Means in any order and any grouping: the same bits; against exact arithmetic in fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.federations import same_bits

from fedlaf.core.types import Weights
from fedlaf.protocol.exact_mean import Mean, TooLarge

LIKE = {
    "w": np.array([[0.5, -3.0], [0.01, 0.0]], np.float32),
    "n": np.array(3),
    "none": np.empty(0, np.float32),
}


def drawn(seed: int, spread: float = 1.0) -> Weights:
    stream = np.random.default_rng(seed)
    values = stream.normal(size=(2, 2)) * 10.0 ** (spread * stream.normal(size=(2, 2)))
    return {
        "w": np.clip(values, -5000, 5000).astype(np.float32),
        "n": np.array(stream.integers(0, 10**6)),
        "none": np.empty(0, np.float32),
    }


def mean_of(terms: list[tuple[Weights, int]], most: int) -> Weights:
    mean = Mean(LIKE, most)
    for weights, rows in terms:
        mean.add(weights, rows)
    return mean.value()


weighted = st.lists(st.tuples(st.integers(0, 2**32), st.integers(1, 10**6)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(weighted, st.randoms(use_true_random=False), st.integers(0, 10**6), st.integers(1, 7))
def test_any_order_and_any_grouping_give_the_same_bits(
    seeds: list[tuple[int, int]], random: object, more: int, parts: int
) -> None:
    terms = [(drawn(seed), rows) for seed, rows in seeds]
    most = sum(rows for _, rows in terms) + more
    expected = mean_of(terms, most)
    random.shuffle(terms)  # type: ignore[attr-defined]
    assert same_bits(mean_of(terms, most), expected)
    whole, groups = Mean(LIKE, most), [Mean(LIKE, most) for _ in range(parts)]
    for place, (weights, rows) in enumerate(terms):
        groups[place % parts].add(weights, rows)
    for group in random.sample(groups, parts):  # type: ignore[attr-defined]
        whole.join(group.sums, group.weight)
    assert same_bits(whole.value(), expected)


@settings(max_examples=60, deadline=None)
@given(weighted)
def test_it_is_the_mean_to_the_last_bit_of_single_precision(seeds: list[tuple[int, int]]) -> None:
    terms = [(drawn(seed, 0.5), rows) for seed, rows in seeds]
    whole = sum(rows for _, rows in terms)
    found = mean_of(terms, whole)
    for place in np.ndindex(2, 2):
        exact = sum(Fraction(float(w["w"][place])) * rows for w, rows in terms) / whole
        # Half a unit in the last place of single precision, and the grid: 2^-38 of the largest of LIKE.
        allowed = float(np.spacing(np.float32(abs(float(exact))))) / 2 + len(terms) * 3 * 2.0**-38
        assert abs(float(exact) - float(found["w"][place])) <= allowed
    count = Fraction(sum(int(w["n"]) * rows for w, rows in terms), whole)
    assert abs(int(found["n"]) - count) <= Fraction(1, 2) + Fraction(1, 1000)


def test_one_term_is_its_own_mean() -> None:
    term = drawn(1)
    term["w"] = np.array([[1.5, -2.25], [0.0, 1e-3]], np.float32)
    found = mean_of([(term, 7)], 1000)
    assert np.allclose(found["w"], term["w"], rtol=0, atol=1e-9)
    assert found["w"].dtype == np.float32
    assert found["n"] == term["n"]
    assert found["none"].shape == (0,)


@pytest.mark.parametrize("value", [1e5, -1e5, np.inf])
def test_what_the_grid_cannot_hold_is_refused_and_leaves_the_sums_alone(value: float) -> None:
    mean = Mean(LIKE, 100)
    mean.add(drawn(1), 10)
    before = {name: array.copy() for name, array in mean.sums.items()}
    wild = {**drawn(2), "w": np.full((2, 2), value, np.float32)}
    with pytest.raises(TooLarge, match="w holds numbers of"):
        mean.add(wild, 10)
    assert same_bits(mean.sums, before)
    assert mean.weight == 10


def test_a_mean_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="positive weight"):
        Mean(LIKE, 10).value()
