"""The state of a stream: all that decides what happens next, as one value that JSON takes and gives back.

The weights that it speaks of are in the run's folder, under the names of stages.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from fedlaf.core.stream import Arrival, Event, RequestRecord, Status
from fedlaf.core.types import ClientId


@dataclass(frozen=True)
class Pending:
    """A request that waits: how many rows it asks to forget, the elapsed rounds when it was issued, and whether
    the published model had been trained on its rows then.
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
    """A batch whose service has begun while training goes on: when it began and when it ends, in elapsed rounds,
    which training weights it began from and which weights it ends in, by the names of their stages.
    """

    batch: tuple[Pending, ...]
    started: int
    ends: int
    original: str
    unlearned: str
    record: RequestRecord


@dataclass(frozen=True)
class Segment:
    """Elapsed rounds that one stage took: of `training` or of a `service`."""

    stage: str
    kind: str
    round: int
    elapsed: int
    rounds: int


@dataclass(frozen=True)
class StreamState:
    """`round` training rounds and `elapsed` rounds in all are over; events up to round `heard` were issued.

    `events` is the trace so far, `pending` waits, `closed` are the ids of a window that is being served,
    `records` what became of all others. `batches` counts stages of service, `weights` names the stage that the
    published model comes from, `identities` has the client that each new identity was, `trained` the clients
    whose rows the model was trained on.
    """

    round: int = 0
    elapsed: int = 0
    heard: int = 0
    events: tuple[Event, ...] = ()
    pending: tuple[Pending, ...] = ()
    closed: tuple[str, ...] = ()
    serving: Serving | None = None
    records: tuple[RequestRecord, ...] = ()
    batches: int = 0
    weights: str = ""
    identities: dict[ClientId, ClientId] = field(default_factory=dict)
    trained: frozenset[ClientId] = frozenset()
    segments: tuple[Segment, ...] = ()

    @property
    def resolved(self) -> list[Arrival]:
        """Requests whose rows nobody touches any more: served, refused or failed."""
        return [r.request for r in self.records if r.status is not Status.CANCELLED]

    @property
    def served(self) -> list[RequestRecord]:
        """Records of the requests that were served."""
        return [record for record in self.records if record.status is Status.SERVED]

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
