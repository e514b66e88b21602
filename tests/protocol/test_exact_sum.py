"""Sums that are the same, bit for bit, in any order, and exact."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlaf.protocol.exact_sum import exact_sum

NUMBERS = st.lists(st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-9), min_size=1, max_size=20)


@given(numbers=NUMBERS, order=st.randoms())
def test_any_order_gives_the_bits_of_the_exact_sum(numbers: list[float], order: object) -> None:
    shuffled = list(numbers)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (
        exact_sum({"x": np.array([number])} for number in terms)["x"][0] for terms in (numbers, shuffled)
    )
    assert one == other
    exact = sum(map(Fraction, numbers))
    assert abs(Fraction(float(one)) - exact) <= abs(exact) * Fraction(2) ** -50 + Fraction(2) ** -58


def test_what_rounding_loses_is_kept() -> None:
    terms = [{"x": np.array([value])} for value in (1e12, 1e-6, -1e12)]
    assert exact_sum(terms)["x"][0] == pytest.approx(1e-6, rel=1e-12)
    assert sum(term["x"][0] for term in terms) != pytest.approx(1e-6, rel=1e-12)


def test_no_term_is_no_sum() -> None:
    with pytest.raises(ValueError, match="at least one term"):
        exact_sum([])
