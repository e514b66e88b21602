"""Checks of what users write: their edges, and an error that says everything."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from fedlaf.core.errors import InvalidValue, require, require_count, require_number


def test_the_error_says_key_expectation_and_what_came() -> None:
    error = InvalidValue("rounds", "a whole number", "ten")
    assert str(error) == "rounds: expected a whole number, got 'ten'"
    assert isinstance(error, ValueError)
    assert (error.key, error.expected, error.received) == ("rounds", "a whole number", "ten")


def test_within_puts_the_key_under_its_section_and_leaves_the_original() -> None:
    error = InvalidValue("rounds", "a count", 0)
    nested = error.within("train").within("experiment")
    assert str(nested) == "experiment.train.rounds: expected a count, got 0"
    assert error.key == "rounds"


@pytest.mark.parametrize("received", [0, None, "x", [1, 2], float("inf")])
def test_the_error_survives_pickling_and_copying(received: object) -> None:
    # It crosses from workers to the process that started them.
    error = InvalidValue("rounds", "a count", received)
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(twin) is InvalidValue
        assert str(twin) == str(error)
        assert (twin.key, twin.expected, twin.received) == (error.key, error.expected, error.received)


def test_require_raises_only_when_it_does_not_hold() -> None:
    require(True, "key", "anything", None)
    with pytest.raises(InvalidValue, match=r"^key: expected anything, got None$"):
        require(False, "key", "anything", None)


@pytest.mark.parametrize(("value", "at_least"), [(1, 1), (2, 1), (0, 0), (10**30, 1), (-3, -3)])
def test_counts_that_pass(value: int, at_least: int) -> None:
    require_count("key", value, at_least=at_least)
    with pytest.raises(InvalidValue):  # the bound is what let it pass
        require_count("key", value, at_least=value + 1)


@pytest.mark.parametrize(
    ("value", "at_least"), [(0, 1), (-1, 0), (1.0, 1), ("1", 1), (None, 1), (True, 1), (False, 0), ([1], 1)]
)
def test_counts_that_do_not(value: Any, at_least: int) -> None:
    with pytest.raises(InvalidValue, match=f"^key: expected a whole number of at least {at_least}, got"):
        require_count("key", value, at_least=at_least)


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (-1e308, {}),
        (5, {}),
        (np.float64(0.5), {"above": 0}),
        (1e-320, {"above": 0}),
        (0, {"at_least": 0}),
        (1, {"at_most": 1}),
        (1.0, {"above": 0, "at_least": 0.5, "at_most": 1}),
    ],
)
def test_numbers_that_pass(value: Any, bounds: dict[str, float]) -> None:
    require_number("key", value, **bounds)
    with pytest.raises(InvalidValue):
        require_number("key", value, **{**bounds, "above": value})


@pytest.mark.parametrize(
    ("value", "bounds", "expected"),
    [
        (float("nan"), {}, "a finite number"),
        (float("inf"), {}, "a finite number"),
        (float("-inf"), {"at_most": 1}, "a finite number at most 1"),
        (True, {}, "a finite number"),
        ("0.5", {}, "a finite number"),
        (None, {"above": 0}, "a finite number above 0"),
        (1j, {}, "a finite number"),
        (0, {"above": 0}, "a finite number above 0"),
        (-1e-320, {"at_least": 0}, "a finite number of at least 0"),
        (1.0000001, {"above": 0, "at_most": 1}, "a finite number above 0 at most 1"),
        pytest.param(10**400, {}, "a finite number", id="more-than-a-float-holds"),
    ],
)
def test_numbers_that_do_not(value: Any, bounds: dict[str, float], expected: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        require_number("key", value, **bounds)
    assert (caught.value.key, caught.value.expected) == ("key", expected)
    assert caught.value.received is value
