"""What users may ask for and how it becomes a request"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.holdings import FOUR, holdings

from fedlaf.core.errors import InvalidValue
from fedlaf.core.request import ForgetRequest
from fedlaf.data.request_specs import (
    RemoveClasses,
    RemoveSamples,
    RemoveWrongLabels,
    WithdrawClients,
)

FEW = settings(max_examples=60, deadline=None)


# ---- what is refused, by name


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
def test_specifications_of_unknown_or_repeated_clients_are_refused(
    ask: Any, clients: Any, message: str
) -> None:
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


# ---- from a specification to rows


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
