"""Requests: one normal form, whoever asks and in whatever words."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.holdings import FOUR

from fedlaf.core.errors import InvalidValue
from fedlaf.core.request import ForgetRequest

FEW = settings(max_examples=60, deadline=None)
SIZES = {0: 5, 1: 3, 2: 4, 3: 1}

row_sets = st.fixed_dictionaries({k: st.sets(st.integers(0, n - 1)) for k, n in SIZES.items()})


def request_of(rows: Mapping[int, set[int]]) -> ForgetRequest:
    return ForgetRequest.of_samples({k: sorted(v) for k, v in rows.items()}, SIZES)


def as_sets(request: ForgetRequest) -> dict[int, set[int]]:
    return {k: set(v) for k, v in request.rows.items()}


# ---- the normal form


def test_of_samples_sorts_rows_and_leaves_out_clients_without_any() -> None:
    request = ForgetRequest.of_samples({2: [3, 0], 0: [4, 1, 2], 1: []}, SIZES)
    assert request.rows == {0: (1, 2, 4), 2: (0, 3)}
    assert request.clients == (0, 2)
    assert request.withdrawn == frozenset()
    assert request.of(2) == (0, 3)
    assert request.of(1) == ()


def test_of_clients_names_every_row_and_withdraws() -> None:
    request = ForgetRequest.of_clients([3, 0], SIZES)
    assert request.rows == {0: (0, 1, 2, 3, 4), 3: (0,)}
    assert request.withdrawn == {0, 3}


@FEW
@given(row_sets)
def test_a_client_is_withdrawn_if_and_only_if_all_its_rows_are_named(rows: dict[int, set[int]]) -> None:
    request = request_of(rows)
    assert request.withdrawn == {k for k, named in rows.items() if len(named) == SIZES[k]}
    assert as_sets(request) == {k: named for k, named in rows.items() if named}


@FEW
@given(row_sets, row_sets)
def test_joined_is_the_union(left: dict[int, set[int]], right: dict[int, set[int]]) -> None:
    joined = request_of(left).joined(request_of(right), SIZES)
    assert joined == request_of({k: left[k] | right[k] for k in SIZES})


@FEW
@given(row_sets, row_sets)
def test_without_is_the_difference(left: dict[int, set[int]], right: dict[int, set[int]]) -> None:
    rest = request_of(left).without(request_of(right))
    assert as_sets(rest) == {k: left[k] - right[k] for k in SIZES if left[k] - right[k]}
    assert all(list(rows) == sorted(rows) for rows in rest.rows.values())
    assert not rest.withdrawn & request_of(right).withdrawn


@FEW
@given(row_sets, row_sets)
def test_what_is_taken_away_and_joined_again_is_the_union(
    left: dict[int, set[int]], right: dict[int, set[int]]
) -> None:
    removed = request_of(right)
    assert request_of(left).without(removed).joined(removed, SIZES) == request_of(left).joined(removed, SIZES)


def test_an_empty_request_names_nobody() -> None:
    assert ForgetRequest().clients == ()
    assert ForgetRequest.of_samples({}, SIZES) == ForgetRequest() == ForgetRequest.of_clients([], SIZES)


# ---- what is refused, by name


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({9: [0]}, "clients: expected one of the 4 clients, got 9"),
        ({-1: [0]}, "clients: expected one of the 4 clients, got -1"),
        ({1: [0, -1]}, r"rows: expected positions from 0 to 2 for client 1, got \[-1\]"),
        ({1: [0, 3, 7]}, r"rows: expected positions from 0 to 2 for client 1, got \[3, 7\]"),
        ({0: [1, 4, 1, 4, 2]}, r"rows: expected each row of client 0 once, got \[1, 4\]"),
    ],
)
def test_of_samples_names_what_it_refuses(rows: dict[int, list[int]], message: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{message}$"):
        ForgetRequest.of_samples(rows, SIZES)


def test_of_clients_names_what_it_refuses() -> None:
    with pytest.raises(InvalidValue, match=r"^clients: expected one of the 4 clients, got 4$"):
        ForgetRequest.of_clients([0, 4], SIZES)
    with pytest.raises(InvalidValue, match=r"^clients: expected each client once, got \[2, 0, 2\]$"):
        ForgetRequest.of_clients([2, 0, 2], SIZES)


@pytest.mark.parametrize("label", [3, -1])
def test_of_classes_refuses_unknown_classes(label: int) -> None:
    with pytest.raises(InvalidValue, match=f"^classes: expected classes from 0 to 2, got {label}$"):
        ForgetRequest.of_classes([0, label], FOUR)
