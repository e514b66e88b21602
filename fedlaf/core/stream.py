"""Requests of a stream as values: what is asked, taken back or begun anew, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fedlaf.core.errors import require, require_count, require_one_of
from fedlaf.core.request_record import RequestStatus
from fedlaf.core.types import ClientId

SCOPES = ("client", "classes", "rows", "wrong_labels")
"""What of a client is to be forgotten: all, rows of some classes, named rows, rows with planted labels."""

LEAVERS = ("helps", "refuses", "offline", "gone")
"""What a client does that is asked to help forget its rows."""


@dataclass(frozen=True)
class Arrival:
    """A request: which rows of which client (None: of all that are there), issued after a training round.

    It is due within `deadline - issued` rounds. A leaver that is `offline` is so from one training round
    until another, the last excluded.
    """

    id: str
    issued: int
    client: ClientId | None = None
    scope: str = "client"
    classes: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    deadline: int | None = None
    cause: str = ""
    leaver: str = "helps"
    offline: tuple[int, int] | None = None
    event: Literal["request"] = "request"

    def __post_init__(self) -> None:
        _require_id(self.id)
        require_count("issued", self.issued)
        require_one_of("scope", self.scope, SCOPES)
        require_one_of("leaver", self.leaver, LEAVERS)
        named = {"classes": self.classes, "rows": self.rows}
        for key, values in named.items():
            fits = bool(values) == (self.scope == key)
            require(fits, key, f"{key} with scope {key}, and with no other", list(values))
        one = self.client is not None or self.scope in ("classes", "wrong_labels")
        require(one, "client", f"a client with scope {self.scope}", self.client)
        if self.deadline is not None:
            require_count("deadline", self.deadline, at_least=self.issued)
        away, spans = self.leaver == "offline", self.offline is not None
        ordered = self.offline is None or self.offline[0] < self.offline[1]
        expected = "two training rounds, the first before the second, with leaver offline alone"
        require(away == spans and ordered, "offline", expected, self.offline)

    @property
    def allowance(self) -> int | None:
        """Elapsed rounds within which it is due; None without a deadline."""
        return None if self.deadline is None else self.deadline - self.issued

    def reachable(self, round_: int) -> bool:
        """Whether its client helps after this training round."""
        if self.offline is not None:
            return not self.offline[0] <= round_ < self.offline[1]
        return self.leaver == "helps"


@dataclass(frozen=True)
class Cancel:
    """The request of this id is taken back, after a training round."""

    id: str
    issued: int
    event: Literal["cancel"] = "cancel"

    def __post_init__(self) -> None:
        _require_id(self.id)
        require_count("issued", self.issued)


@dataclass(frozen=True)
class Return:
    """A client that has withdrawn comes back, with its consent: a new identity that holds the same rows."""

    id: str
    issued: int
    client: ClientId
    consent: str
    event: Literal["return"] = "return"

    def __post_init__(self) -> None:
        _require_id(self.id)
        require_count("issued", self.issued)
        require_count("client", self.client, at_least=0)
        require(bool(self.consent.strip()), "consent", "a note on how it consented", self.consent)


Event = Arrival | Cancel | Return


@dataclass(frozen=True)
class RequestOutcome:
    """What became of one request of a stream, from when it was issued until it was served, refused, failed,
    stopped or cancelled.

    `issued`, `started` and `completed` count elapsed rounds, of training and of services; `issued_round`,
    `started_round` and `completed_round` count training rounds. `service` are the rounds of the stage that
    served it, which is named `stage` and was run by `method`; `cost` is that stage's, over all requests
    `together` in it. `check_seconds` is how long its result was looked at before it was published. `held`
    says whether the published model had been trained on its rows when it was issued, `phases` who answered in
    each phase.
    """

    request: Arrival
    status: RequestStatus
    rows: int
    issued: int
    issued_round: int
    completed: int
    completed_round: int
    started: int | None = None
    started_round: int | None = None
    service: int = 0
    check_seconds: float = 0.0
    stage: str = ""
    method: str = ""
    fallback: bool = False
    forgotten: bool = True
    together: tuple[str, ...] = ()
    reason: str = ""
    held: bool = True
    phases: Mapping[str, tuple[ClientId, ...]] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether a model that has forgotten its rows was published."""
        return self.status is RequestStatus.COMPLETED and self.forgotten

    @property
    def wait(self) -> int | None:
        """Elapsed rounds until its service began; None where none did."""
        return None if self.started is None else self.started - self.issued

    @property
    def time(self) -> int | None:
        """Elapsed rounds until a model without its rows was published; None where none was."""
        return self.completed - self.issued if self.done else None

    def exposure(self, end: int) -> int:
        """Elapsed rounds, up to `end`, in which the published model still held its rows."""
        if not self.held or self.status is RequestStatus.CANCELLED:
            return 0
        return (self.completed if self.done else end) - self.issued

    @property
    def missed(self) -> bool:
        """Whether it was not forgotten by its deadline."""
        allowed = self.request.allowance
        if allowed is None or self.status is RequestStatus.CANCELLED:
            return False
        return not self.done or self.completed > self.issued + allowed


def _require_id(name: str) -> None:
    require(bool(name.strip()), "id", "a name", name)


@dataclass(frozen=True)
class BatchOutcome:
    """What became of one stage of service: which requests it served together, by which method, when (elapsed
    rounds, and the training rounds `started_round` and `round`, in which it ended), what it cost, and
    accuracies in percent on a few test rows (`test_before`, `test_after`) and on all rows to forget. It has
    `forgotten` nothing where no weight changed.
    """

    stage: str
    method: str
    fallback: bool
    status: RequestStatus
    requests: tuple[str, ...]
    rows: int
    round: int
    started: int
    completed: int
    started_round: int
    cost: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    check_seconds: float = 0.0
    measures: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    forgotten: bool = True


@dataclass(frozen=True)
class Segment:
    """Elapsed rounds that one stage took: of `training` or of a `service`; `round` and `elapsed` are those
    when it began.
    """

    stage: str
    kind: str
    round: int
    elapsed: int
    rounds: int
