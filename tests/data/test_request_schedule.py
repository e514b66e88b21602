"""The order in which requests are served, and what cannot be asked any more."""

from __future__ import annotations

from typing import Any

import pytest
from support.holdings import FOUR, holdings

from fedlaf.core.errors import InvalidValue
from fedlaf.data.request_specs import (
    RemoveClasses,
    RemoveSamples,
    RemoveWrongLabels,
    WithdrawClients,
    schedule,
)

ROUNDS = 10


def test_requests_are_served_in_the_order_of_their_rounds_the_last_ones_at_the_end() -> None:
    served = schedule(
        [WithdrawClients([0]), WithdrawClients([1], round=7), WithdrawClients([2], round=2)], FOUR, ROUNDS
    )
    assert [(at, request.clients) for at, request in served] == [(2, (2,)), (7, (1,)), (10, (0,))]


def test_requests_of_one_round_keep_the_order_in_which_they_are_written() -> None:
    for first, second in ((None, 10), (10, None), (4, 4)):
        served = schedule([WithdrawClients([3], first), WithdrawClients([1], second)], FOUR, ROUNDS)
        assert [request.clients for _, request in served] == [(3,), (1,)]


def test_nothing_asked_is_an_empty_schedule() -> None:
    assert schedule([], FOUR, ROUNDS) == ()


def test_a_round_past_the_last_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"^round: expected a training round from 1 to 10, got 11$"):
        schedule([WithdrawClients([0], round=11)], FOUR, ROUNDS)
    assert schedule([WithdrawClients([0], round=10)], FOUR, ROUNDS)[0][0] == 10


@pytest.mark.parametrize(
    "late",
    [
        WithdrawClients([2, 1]),
        RemoveClasses([0], clients=[0, 1]),
        RemoveSamples(share=0.5, clients=[1]),
        RemoveSamples(rows={0: [0], 1: [2]}),
        RemoveWrongLabels(clients=[1, 2]),
    ],
    ids=lambda spec: type(spec).__name__,
)
def test_a_client_that_has_left_cannot_be_asked_by_name(late: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^clients: .*not withdrawn earlier, got \[1\]$"):
        schedule([late, WithdrawClients([1], round=3)], FOUR, ROUNDS)


def test_a_removal_that_names_nobody_touches_those_who_are_still_there() -> None:
    served = schedule([RemoveClasses([0]), WithdrawClients([1], round=3)], FOUR, ROUNDS)
    assert served[1][1].rows == {0: (0, 3)}
    assert served[1][1].withdrawn == frozenset()


def test_rows_that_are_gone_are_not_asked_again() -> None:
    served = schedule([RemoveSamples(rows={0: [0, 1]}, round=1), RemoveClasses([0, 2])], FOUR, ROUNDS)
    assert served[1][1].of(0) == (2, 3, 5)


def test_the_last_rows_of_a_client_take_it_away() -> None:
    served = schedule(
        [RemoveSamples(rows={2: [0, 2]}, round=1), RemoveSamples(rows={2: [1]}, round=2)], FOUR, ROUNDS
    )
    assert [request.withdrawn for _, request in served] == [frozenset(), {2}]
    with pytest.raises(InvalidValue, match=r"^clients: .*got \[2\]$"):
        schedule(
            [
                RemoveSamples(rows={2: [0, 2]}, round=1),
                RemoveSamples(rows={2: [1]}, round=2),
                WithdrawClients([2]),
            ],
            FOUR,
            ROUNDS,
        )


@pytest.mark.parametrize(
    "specs",
    [
        [RemoveClasses([1], clients=[3])],
        [RemoveWrongLabels(clients=[1])],
        [RemoveSamples(share=0.01)],
        [RemoveSamples(rows={0: []})],
        [RemoveSamples(rows={0: [1, 2]}, round=1), RemoveSamples(rows={0: [2]})],
    ],
)
def test_a_request_for_nothing_is_refused(specs: list[Any]) -> None:
    name = type(specs[-1]).__name__
    with pytest.raises(InvalidValue, match=f"^request: expected at least one row to forget, got '{name}'"):
        schedule(specs, FOUR, ROUNDS)


def test_somebody_must_remain_in_the_end() -> None:
    with pytest.raises(InvalidValue, match=r"^request: expected at least one row to remain"):
        schedule([WithdrawClients([0, 1], round=1), WithdrawClients([2, 3])], FOUR, ROUNDS)
    with pytest.raises(InvalidValue, match=r"^request: expected at least one row to remain"):
        schedule([RemoveClasses([0, 1, 2])], FOUR, ROUNDS)


def test_a_client_that_never_had_a_row_is_nobody_who_remains() -> None:
    with_an_empty_one = holdings([[0, 1], [], [2]])
    with pytest.raises(InvalidValue, match=r"^request: expected at least one row to remain"):
        schedule([WithdrawClients([0, 2])], with_an_empty_one, ROUNDS)
