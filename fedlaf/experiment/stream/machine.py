"""What happens next in a stream: pure functions from a state to the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fedlaf.core.errors import require
from fedlaf.core.request_record import RequestStatus
from fedlaf.core.stream import Arrival, Cancel, Event, RequestOutcome, Return
from fedlaf.core.types import ClientId
from fedlaf.experiment.stream.service import Window
from fedlaf.experiment.stream.state import Pending, StreamState

RowsOf = Callable[[StreamState, Arrival], int]
Rounds = Callable[[Sequence[Pending]], int]
Waits = Callable[[Pending, StreamState], bool]

NO_ROWS = "no row is left to forget"
TAKEN_BACK = "taken back"


def issued(state: StreamState, events: Sequence[Event], rows_of: RowsOf, clients: int) -> StreamState:
    """The state after the events of its round: requests wait, cancelled ones are gone, clients are back.

    `rows_of` says how many rows a request asks to forget that are not gone yet; one without any is refused.
    Raises InvalidValue for an id that was there before.
    """
    for event in events:
        known = [earlier.id for earlier in state.events if not isinstance(earlier, Cancel)]
        if isinstance(event, Cancel):
            state = _cancelled(state, event.id)
        else:
            require(event.id not in known, "id", "an id that no earlier request has", event.id)
        if isinstance(event, Arrival):
            state = _asked(state, event, rows_of(state, event))
        elif isinstance(event, Return):
            state = _returned(state, event, clients)
        state = replace(state, events=(*state.events, event))
    return replace(state, heard=state.round)


def ended(state: StreamState, pending: Pending, status: RequestStatus, reason: str) -> RequestOutcome:
    """The outcome of a request that ends now without having been served."""
    return RequestOutcome(
        pending.request, status, pending.rows, pending.issued, pending.request.issued, state.elapsed,
        state.round, reason=reason, held=pending.held,
    )  # fmt: skip


def without(state: StreamState, gone: Sequence[Pending], outcomes: Sequence[RequestOutcome]) -> StreamState:
    """The state in which these requests no longer wait, with the outcomes of what became of them."""
    ids = {pending.request.id for pending in gone}
    pending = tuple(p for p in state.pending if p.request.id not in ids)
    closed = tuple(name for name in state.closed if name not in ids)
    return replace(state, pending=pending, closed=closed, outcomes=(*state.outcomes, *outcomes))


def closing(
    state: StreamState, window: Window, waits: Waits, rounds_of: Rounds, *, last: bool
) -> tuple[str, ...]:
    """The ids of the requests that the window holds where it closes now, else none.

    `waits` are those that cannot be served yet and are worth waiting for; after the `last` round nothing is.
    """
    ready = [p for p in state.pending if last or not waits(p, state)]
    if not ready or state.serving is not None:
        return ()
    closes = last or state.elapsed - min(p.issued for p in ready) >= window.longest_wait
    closes |= window.requests is not None and len(ready) >= window.requests
    closes |= window.rows is not None and sum(p.rows for p in ready) >= window.rows
    due = min(p.due for p in ready)
    if window.before_deadline and due < float("inf"):
        closes |= due - state.elapsed <= rounds_of(ready)
    return tuple(p.request.id for p in sorted(ready, key=lambda p: p.order)) if closes else ()


def batch(state: StreamState, window: Window, alike: Callable[[Pending], object]) -> tuple[Pending, ...]:
    """The requests of the closed window that are served next: the most urgent one, and as many of those
    `alike`, served by the same method, as the window's limits allow; a client's requests stay together.
    """
    closed = sorted((p for p in state.pending if p.request.id in state.closed), key=lambda p: p.order)
    if not closed:
        return ()
    kind = alike(closed[0])
    chosen: list[Pending] = []
    for group in _by_client([p for p in closed if alike(p) == kind]):
        more = [*chosen, *group]
        fits = window.requests is None or len(more) <= window.requests
        fits &= window.rows is None or sum(p.rows for p in more) <= window.rows
        if chosen and not fits:
            break
        chosen = more
    return tuple(chosen)


def _by_client(pending: Sequence[Pending]) -> list[list[Pending]]:
    """Requests by client, in the order of the first of each; those of all clients stand alone."""
    groups: dict[object, list[Pending]] = {}
    for one in pending:
        client: ClientId | None = one.request.client
        groups.setdefault(one.request.id if client is None else client, []).append(one)
    return list(groups.values())


def _asked(state: StreamState, request: Arrival, rows: int) -> StreamState:
    held = request.client is None or request.client in state.trained
    pending = Pending(request, rows, state.elapsed, held)
    if rows == 0:
        return without(
            state, (), [replace(ended(state, pending, RequestStatus.REFUSED, NO_ROWS), held=False)]
        )
    return replace(state, pending=(*state.pending, pending))


def _cancelled(state: StreamState, name: str) -> StreamState:
    gone = [p for p in state.pending if p.request.id == name]
    return without(state, gone, [ended(state, p, RequestStatus.CANCELLED, TAKEN_BACK) for p in gone])


def _returned(state: StreamState, event: Return, clients: int) -> StreamState:
    """A number is taken up by each return of the trace, so that it depends on nothing else; a client that has
    not withdrawn does not become another.
    """
    new = clients + sum(isinstance(earlier, Return) for earlier in state.events)
    left = any(asked.client == event.client and asked.scope == "client" for asked in state.resolved)
    if not left:
        return state
    origin = state.identities.get(event.client, event.client)
    return replace(state, identities={**state.identities, new: origin})
