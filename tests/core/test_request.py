"""Requests: one normal form, whoever asks and in whatever words; and the order in which they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlaf.core.errors import InvalidValue
from fedlaf.core.request import ForgetRequest, Holdings
from fedlaf.data.request_specs import (
    RemoveClasses,
    RemoveSamples,
    RemoveWrongLabels,
    WithdrawClients,
    schedule,
)

FEW = settings(max_examples=60, deadline=None)
SIZES = {0: 5, 1: 3, 2: 4, 3: 1}
ROUNDS = 10

row_sets = st.fixed_dictionaries({k: st.sets(st.integers(0, n - 1)) for k, n in SIZES.items()})


def holdings(labels: Sequence[Sequence[int]], wrong: Sequence[Sequence[int]] | None = None) -> Holdings:
    marks = wrong or [[0] * len(held) for held in labels]
    return Holdings(
        tuple(np.array(held, dtype=np.int64) for held in labels),
        tuple(np.array(mark, dtype=bool) for mark in marks),
        3,
    )


FOUR = holdings(
    [[0, 1, 2, 0, 1, 2], [0, 0, 0, 0], [1, 2, 1], [2, 2]],
    [[0, 1, 0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1], [0, 0]],
)


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


@pytest.mark.parametrize("ask", [lambda who: RemoveClasses([0], who), RemoveWrongLabels])
@pytest.mark.parametrize(
    ("clients", "message"),
    [
        ([1, 4], "clients: expected client ids from 0 to 3, got 4"),
        ([-1], "clients: expected client ids from 0 to 3, got -1"),
        (["1"], "clients: expected client ids from 0 to 3, got '1'"),
        ([True], "clients: expected client ids from 0 to 3, got True"),
        ([1, 0, 1], r"clients: expected each client once, got \[1, 0, 1\]"),
    ],
)
def test_demands_on_unknown_or_repeated_clients_are_refused(ask: Any, clients: Any, message: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{message}$"):
        ask(clients).resolve(FOUR)


@pytest.mark.parametrize(("kind", "key"), [(WithdrawClients, "clients"), (RemoveClasses, "classes")], ids=str)
@pytest.mark.parametrize("named", [[], "0", None, 3, [-1], [0.5], ["0"], [True]])
def test_lists_of_clients_and_classes_must_hold_whole_numbers(kind: Any, key: str, named: Any) -> None:
    with pytest.raises(InvalidValue, match=f"^{key}: expected"):
        kind(named)


@pytest.mark.parametrize(
    "make",
    [
        lambda at: WithdrawClients([0], at),
        lambda at: RemoveClasses([0], round=at),
        lambda at: RemoveSamples(share=0.5, round=at),
        lambda at: RemoveWrongLabels(round=at),
    ],
)
@pytest.mark.parametrize("at", [0, -1, 1.5, "3"])
def test_a_round_must_be_a_count(make: Any, at: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^round: expected a whole number of at least 1"):
        make(at)


# ---- demands


def test_withdrawing_is_all_rows_of_the_clients() -> None:
    request = WithdrawClients([2, 1]).resolve(FOUR)
    assert request.rows == {1: (0, 1, 2, 3), 2: (0, 1, 2)}
    assert request.withdrawn == {1, 2}


def test_everyone_cannot_withdraw_at_once() -> None:
    with pytest.raises(InvalidValue, match=r"^clients: expected fewer than the 4 clients"):
        WithdrawClients([0, 1, 2, 3]).resolve(FOUR)


def test_removing_classes_finds_them_at_every_client_or_at_those_named() -> None:
    assert RemoveClasses([0]).resolve(FOUR).rows == {0: (0, 3), 1: (0, 1, 2, 3)}
    assert RemoveClasses([0]).resolve(FOUR).withdrawn == {1}  # it holds nothing else
    assert RemoveClasses([2, 1], clients=[3, 0]).resolve(FOUR).rows == {0: (1, 2, 4, 5), 3: (0, 1)}
    assert RemoveClasses([1], clients=[3]).resolve(FOUR) == ForgetRequest()


def test_removing_wrong_labels_finds_the_planted_ones() -> None:
    request = RemoveWrongLabels().resolve(FOUR)
    assert request.rows == {0: (1, 5), 2: (0, 1, 2)}
    assert request.withdrawn == {2}
    assert RemoveWrongLabels(clients=[0]).resolve(FOUR).rows == {0: (1, 5)}


def test_removing_named_rows_takes_keys_as_configurations_write_them() -> None:
    assert RemoveSamples(rows={0: [5, 1], 3: [0]}).resolve(FOUR).rows == {0: (1, 5), 3: (0,)}
    named: Any = {"0": [1]}
    assert RemoveSamples(rows=named).resolve(FOUR).rows == {0: (1,)}


def test_removing_named_rows_refuses_what_is_no_position() -> None:
    with pytest.raises(InvalidValue, match=r"^clients: expected one of the 4 clients, got 4$"):
        RemoveSamples(rows={4: [0]}).resolve(FOUR)
    with pytest.raises(InvalidValue, match=r"^rows: .* for client 3, got \[2\]$"):
        RemoveSamples(rows={3: [1, 2]}).resolve(FOUR)


@pytest.mark.parametrize("row", [1.5, 1.0, "1", True])
def test_a_position_must_be_a_whole_number(row: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^rows: "):
        RemoveSamples(rows={0: [row]}).resolve(FOUR)


def test_either_a_share_or_rows() -> None:
    for given_both_or_none in ({}, {"share": 0.5, "rows": {0: [1]}}):
        with pytest.raises(InvalidValue, match=r"^share: expected either share or rows"):
            RemoveSamples(**given_both_or_none)


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan"), "0.5", True])
def test_a_share_lies_above_zero_and_at_most_one(share: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^share: expected a finite number above 0 at most 1"):
        RemoveSamples(share=share)


@FEW
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=25), min_size=2, max_size=4),
    st.floats(0.01, 1.0),
    st.integers(0, 1000),
)
def test_a_share_is_taken_of_each_class_of_each_client(
    labels: list[list[int]], share: float, seed: int
) -> None:
    request = RemoveSamples(share=share, seed=seed).resolve(holdings(labels))
    for client, held in enumerate(labels):
        taken = [held[row] for row in request.of(client)]
        for label in range(3):
            assert taken.count(label) == round(share * held.count(label))


def test_a_share_of_some_classes_leaves_the_others_alone() -> None:
    mixed = holdings([[0, 1, 2] * 10, [0, 1, 2] * 10])
    request = RemoveSamples(share=0.5, classes=[2, 0], clients=[1]).resolve(mixed)
    assert request.clients == (1,)
    assert sorted(mixed.labels[1][list(request.of(1))].tolist()) == [0] * 5 + [2] * 5


def test_a_draw_depends_on_its_seed_and_client_alone() -> None:
    many = holdings([[0, 1, 2] * 20] * 3)
    drawn = RemoveSamples(share=0.4).resolve(many)
    assert drawn == RemoveSamples(share=0.4).resolve(many)
    assert drawn != RemoveSamples(share=0.4, seed=1).resolve(many)
    assert drawn.of(1) == RemoveSamples(share=0.4, clients=[2, 1]).resolve(many).of(1)
    assert drawn.of(0) != drawn.of(1)


def test_a_share_refuses_unknown_and_repeated_classes() -> None:
    with pytest.raises(InvalidValue, match=r"^classes: expected classes from 0 to 2, got 3$"):
        RemoveSamples(share=0.5, classes=[0, 3]).resolve(FOUR)
    # Twice the same class would draw its share twice.
    with pytest.raises(InvalidValue, match=r"^classes: "):
        RemoveSamples(share=0.1, classes=[1, 1]).resolve(holdings([[1] * 20, [0]]))


# ---- the schedule


def test_demands_are_served_in_the_order_of_their_rounds_the_last_ones_at_the_end() -> None:
    served = schedule(
        [WithdrawClients([0]), WithdrawClients([1], round=7), WithdrawClients([2], round=2)], FOUR, ROUNDS
    )
    assert [(at, request.clients) for at, request in served] == [(2, (2,)), (7, (1,)), (10, (0,))]


def test_demands_of_one_round_keep_the_order_in_which_they_are_written() -> None:
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
    "demands",
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
