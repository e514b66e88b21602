"""The state of a stream: all that decides what happens next, as one value that JSON takes and gives back.

The weights that it speaks of are in the run's folder, under the names of stages.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from fedlaf.core.request_record import RequestStatus
from fedlaf.core.stream import Arrival, BatchOutcome, Event, RequestOutcome, Segment
from fedlaf.core.types import ClientId


@dataclass(frozen=True)
class Pending:
    """A request that waits: how many rows it asks to forget, the elapsed rounds when it was issued, and
    whether the published model had been trained on its rows then.
    """

    request: Arrival
    rows: int
    issued: int
    held: bool = True

    @property
    def due(self) -> float:
        """Elapsed rounds at which it must be served."""
        allowed = self.request.allowance
        return float("inf") if allowed is None else self.issued + allowed

    @property
    def order(self) -> tuple[float, int, str]:
        """Its place in the queue: the earliest deadline first, then the earliest request."""
        return self.due, self.issued, self.request.id


@dataclass(frozen=True)
class Serving:
    """A batch that is being served while training goes on, and what will have become of it at `ends`, in
    elapsed rounds. `original` and `unlearned` name the stages with the weights that its service began from
    and ends in.
    """

    batch: tuple[Pending, ...]
    ends: int
    original: str
    unlearned: str
    outcome: BatchOutcome
    phases: dict[str, tuple[ClientId, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class StreamState:
    """`round` training rounds and `elapsed` rounds in all are over; events up to round `heard` were issued.

    `events` is the trace so far, `pending` waits, `closed` are the ids of a window that is being served,
    `outcomes` what became of all others. `batches` are the stages of service, `weights` names the stage that
    the published model comes from, `identities` has the client that each new identity was, `trained` the
    clients whose rows the model was trained on.
    """

    round: int = 0
    elapsed: int = 0
    heard: int = 0
    events: tuple[Event, ...] = ()
    pending: tuple[Pending, ...] = ()
    closed: tuple[str, ...] = ()
    serving: Serving | None = None
    outcomes: tuple[RequestOutcome, ...] = ()
    batches: tuple[BatchOutcome, ...] = ()
    weights: str = ""
    identities: dict[ClientId, ClientId] = field(default_factory=dict)
    trained: frozenset[ClientId] = frozenset()
    segments: tuple[Segment, ...] = ()

    @property
    def resolved(self) -> list[Arrival]:
        """Requests whose rows nobody touches any more: served, refused or failed."""
        return [r.request for r in self.outcomes if r.status is not RequestStatus.CANCELLED]

    @property
    def served(self) -> list[RequestOutcome]:
        """Records of the requests that were served."""
        return [outcome for outcome in self.outcomes if outcome.status is RequestStatus.COMPLETED]

    @property
    def waiting(self) -> tuple[Pending, ...]:
        """All whose rows are still in the model: pending, and in service."""
        return self.pending + (self.serving.batch if self.serving else ())

    def moved(self, stage: str, kind: str, rounds: int) -> StreamState:
        """The state after `rounds` rounds of a stage; those of training move the clock."""
        spent = Segment(stage, kind, self.round, self.elapsed, rounds)
        on = rounds if kind == "training" else 0
        return replace(
            self, round=self.round + on, elapsed=self.elapsed + rounds, segments=(*self.segments, spent)
        )

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        found: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return found

    @classmethod
    def of(cls, found: dict[str, Any]) -> StreamState:
        """What `as_json` gave. Raises ValueError for anything else."""
        return _adapter().validate_python(found)


@cache
def _adapter() -> TypeAdapter[StreamState]:
    return TypeAdapter(StreamState)
