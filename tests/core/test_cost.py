"""Costs: they add up field by field, and cross the wire as plain numbers."""

from __future__ import annotations

import dataclasses
import functools
import operator

from hypothesis import given
from hypothesis import strategies as st

from fedlaf.core.cost import NAMES, PEAKS, Cost, total

costs = st.builds(Cost, **{name: st.integers(0, 10**9).map(float) for name in NAMES})


def test_passes_are_those_with_and_without_gradient_but_not_those_of_the_vae() -> None:
    assert Cost(gradient_passes=3, forward_passes=4, vae_passes=50, labels_read=6).passes == 7


@given(costs, costs)
def test_a_sum_is_the_sum_of_each_count_and_the_higher_of_each_peak(left: Cost, right: Cost) -> None:
    for field in dataclasses.fields(Cost):
        one, other = getattr(left, field.name), getattr(right, field.name)
        expected = max(one, other) if field.name.endswith("_memory") else one + other
        assert getattr(left + right, field.name) == expected
    assert tuple(name for name in NAMES if name.endswith("_memory")) == PEAKS
    assert left.rows_read == left.retain_rows_read + left.forget_rows_read
    assert (left + right).passes == left.passes + right.passes


@given(st.lists(costs, max_size=5))
def test_a_total_is_the_sum_from_nothing(many: list[Cost]) -> None:
    assert total(iter(many)) == functools.reduce(operator.add, many, Cost())
    assert total(many[::-1]) == total(many)


@given(costs)
def test_numbers_and_back(cost: Cost) -> None:
    numbers = cost.numbers()
    assert Cost.of(numbers) == cost
    assert list(numbers) == [field.name for field in dataclasses.fields(Cost)]
    assert all(type(value) is float for value in numbers.values())


def test_of_picks_the_costs_among_other_numbers_and_misses_are_zero() -> None:
    assert Cost.of({"loss": 0.5, "client": 3.0, "gradient_passes": 20.0}) == Cost(gradient_passes=20.0)
    assert Cost.of({}) == Cost()
    assert set(Cost().numbers().values()) == {0.0}
