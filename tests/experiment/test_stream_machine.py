"""The state machine of a stream: windows, batches, cancelling, coming back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlaf.core.errors import InvalidValue
from fedlaf.core.request_record import RequestStatus
from fedlaf.core.stream import Arrival, Cancel, Event, Return
from fedlaf.experiment.stream.machine import batch, closing, ended, issued, without
from fedlaf.experiment.stream.service import Window
from fedlaf.experiment.stream.state import Pending, StreamState

CLIENTS = 8


def rows_of(state: StreamState, request: Arrival) -> int:
    return 10


def never(pending: Pending, state: StreamState) -> bool:
    return False


def three(pending: Sequence[Pending]) -> int:
    return 3


def after(*events: Event, elapsed: int = 5) -> StreamState:
    """The state in round 5 after the events."""
    state = StreamState(round=5, elapsed=elapsed, trained=frozenset(range(CLIENTS)))
    return issued(state, events, rows_of, CLIENTS)


def ids(pending: Sequence[Pending]) -> list[str]:
    return [p.request.id for p in pending]


def held(state: StreamState, window: Window, *, later: int = 0, last: bool = False) -> list[str]:
    now = replace(state, elapsed=state.elapsed + later)
    return list(closing(now, window, never, three, last=last))


TWO = after(Arrival("a", 5, 1, deadline=20), Arrival("b", 5, 2, deadline=12))


@pytest.mark.parametrize(
    ("window", "later", "closes"),
    [
        (Window(), 0, True),
        (Window(longest_wait=2), 1, False),
        (Window(longest_wait=2), 2, True),
        (Window(requests=2, longest_wait=9), 0, True),
        (Window(requests=3, longest_wait=9), 0, False),
        (Window(rows=20, longest_wait=9), 0, True),
        (Window(rows=21, longest_wait=9), 0, False),
        (Window(longest_wait=9), 3, False),  # b is due 7 rounds after 5, and its service takes 3
        (Window(longest_wait=9), 4, True),
        (Window(longest_wait=9, before_deadline=False), 4, False),
    ],
    ids=str,
)
def test_a_window_closes_at_the_first_of_its_limits(window: Window, later: int, closes: bool) -> None:
    assert held(TWO, window, later=later) == (["b", "a"] if closes else [])


def test_after_the_last_round_every_window_closes() -> None:
    assert held(TWO, Window(longest_wait=9), last=True) == ["b", "a"]


def test_requests_worth_waiting_for_are_left_out() -> None:
    waits = closing(TWO, Window(), lambda p, state: p.request.id == "b", three, last=False)
    assert list(waits) == ["a"]


def test_a_batch_holds_what_the_window_allows_the_earliest_deadline_first() -> None:
    state = replace(TWO, closed=("a", "b"))
    assert ids(batch(state, Window(), lambda p: 0)) == ["b", "a"]
    assert ids(batch(state, Window(requests=1), lambda p: 0)) == ["b"]
    assert ids(batch(state, Window(rows=19), lambda p: 0)) == ["b"]
    assert ids(batch(state, Window(), lambda p: p.request.client)) == ["b"]  # served by different methods
    assert batch(replace(TWO, closed=()), Window(), lambda p: 0) == ()


def test_a_clients_pending_requests_are_served_together() -> None:
    state = after(
        Arrival("a", 5, 1, "rows", rows=(1,), deadline=7), Arrival("b", 5, 2, deadline=8), Arrival("c", 5, 1)
    )
    state = replace(state, closed=("a", "b", "c"))
    assert ids(batch(state, Window(requests=2), lambda p: 0)) == ["a", "c"]


def test_a_request_can_be_taken_back_until_it_is_served() -> None:
    state = issued(replace(TWO, round=6, elapsed=6), [Cancel("a", 6)], rows_of, CLIENTS)
    assert ids(state.pending) == ["b"]
    (outcome,) = state.outcomes
    assert (outcome.request.id, outcome.status, outcome.completed) == ("a", RequestStatus.CANCELLED, 6)
    assert state.resolved == []  # its rows may be trained on again
    assert issued(state, [Cancel("a", 6)], rows_of, CLIENTS).outcomes == state.outcomes


def test_who_returns_is_a_new_identity_but_only_after_leaving() -> None:
    left = without(TWO, TWO.pending[:1], [ended(TWO, TWO.pending[0], RequestStatus.REFUSED, "no")])
    back = issued(left, [Return("x", 5, 1, "asked"), Return("y", 5, 2, "asked")], rows_of, CLIENTS)
    assert back.identities == {CLIENTS: 1}  # client 2 has not left
    again = issued(back, [Arrival("d", 5, CLIENTS)], rows_of, CLIENTS)
    gone = without(again, again.pending[-1:], [ended(again, again.pending[-1], RequestStatus.FAILED, "no")])
    twice = issued(gone, [Return("z", 5, CLIENTS, "asked")], rows_of, CLIENTS)
    assert twice.identities == {CLIENTS: 1, CLIENTS + 2: 1}


def test_an_id_comes_once_and_a_request_for_nothing_is_refused() -> None:
    with pytest.raises(InvalidValue, match="id"):
        issued(TWO, [Arrival("a", 5, 3)], rows_of, CLIENTS)
    state = issued(StreamState(round=5, elapsed=5), [Arrival("a", 5, 3)], lambda state, request: 0, CLIENTS)
    (outcome,) = state.outcomes
    assert (outcome.status, outcome.exposure(99)) == (RequestStatus.REFUSED, 0)


REQUESTS = st.lists(
    st.builds(
        lambda client, due, scope: (client, due, scope),
        st.integers(0, CLIENTS - 1), st.none() | st.integers(5, 15), st.booleans(),
    ),
    min_size=1, max_size=7,
)  # fmt: skip


def arrivals(drawn: Sequence[tuple[int, int | None, bool]]) -> list[Arrival]:
    return [
        Arrival(f"r{i}", 5, client, "client" if whole else "rows", rows=() if whole else (i,), deadline=due)
        for i, (client, due, whole) in enumerate(drawn)
    ]


@given(REQUESTS, st.randoms(), st.none() | st.integers(1, 4), st.none() | st.integers(5, 40))
def test_the_order_inside_a_window_does_not_matter(
    drawn: list[tuple[int, int | None, bool]], random: object, requests: int | None, rows: int | None
) -> None:
    window = Window(requests, rows)
    first = arrivals(drawn)
    other = list(first)
    random.shuffle(other)  # type: ignore[attr-defined]
    states = [replace(after(*some), closed=tuple(a.id for a in some)) for some in (first, other)]
    one, two = (set(ids(batch(state, window, lambda p: 0))) for state in states)
    assert one == two


@given(REQUESTS, st.none() | st.integers(1, 4), st.none() | st.integers(5, 40))
def test_batch_by_batch_every_request_ends_once(
    drawn: list[tuple[int, int | None, bool]], requests: int | None, rows: int | None
) -> None:
    window, state = Window(requests, rows), after(*arrivals(drawn))
    state = replace(state, closed=tuple(held(state, window, last=True)))
    while now := batch(state, window, lambda p: 0):
        done = [ended(state, p, RequestStatus.COMPLETED, "") for p in now]
        state = without(state, now, done)
        by_client = {p.request.client for p in now}
        assert not by_client & {p.request.client for p in state.pending}
    assert state.pending == () == state.closed
    assert sorted(o.request.id for o in state.outcomes) == sorted(f"r{i}" for i in range(len(drawn)))


@given(REQUESTS)
def test_a_state_is_the_same_after_json(drawn: list[tuple[int, int | None, bool]]) -> None:
    state = after(*arrivals(drawn), Return("x", 5, 1, "asked")).moved("train", "training", 3)
    state = without(state, state.pending[:1], [ended(state, state.pending[0], RequestStatus.REFUSED, "no")])
    assert StreamState.of(json.loads(json.dumps(state.as_json()))) == state
