"""What every kind of arrivals is given and gives, and how requests are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeVar

import numpy as np

from fedlaf.core.errors import require, require_count, require_number, require_one_of
from fedlaf.core.request import Holdings
from fedlaf.core.seeding import numpy_stream
from fedlaf.core.stream import LEAVERS, SCOPES, Arrival, Cancel, Event, Return
from fedlaf.core.types import ClientId, Weights
from fedlaf.models import Classifier

K = TypeVar("K", bound=str)


@dataclass(frozen=True)
class Moment:
    """A training round that has ended: what was asked so far, and what is known to everybody.

    For arrivals that see the published model, `weights` are its weights, `published` makes the network that
    holds them, and `accuracy` is its share of right answers on the rows of a client, as that client can
    measure it.
    """

    round: int
    rounds: int
    holdings: Holdings
    asked: tuple[Event, ...] = ()
    weights: Weights | None = None
    published: Callable[[], Classifier] | None = None
    accuracy: Callable[[ClientId], float] | None = None

    @property
    def unasked(self) -> list[ClientId]:
        """Clients that no request has named so far, in order."""
        named = {event.client for event in self.asked if isinstance(event, Arrival)}
        return [k for k in range(len(self.holdings.labels)) if k not in named]


class Arrivals(Protocol):
    """A process of requests: a pure function of the moment.

    Where it does not see the model, what it gives depends on rounds and on what was asked before alone, so
    that the same requests come for every method.
    """

    sees_model: ClassVar[bool]

    def events(self, now: Moment) -> Sequence[Event]:
        """What is issued after the round `now.round`."""


@dataclass(frozen=True)
class Mix:
    """Of what kinds requests are: shares of `scopes` and of `leavers`, which need not sum to 1.

    A request for rows is for a `share` of a client's, one for classes for one class. Each is due `deadline`
    rounds after it is issued, and an offline leaver is back after `offline` rounds. At least `stay` clients
    never ask. The share `cancels` is taken back a round after it was issued; of clients that withdraw, the
    share `returns` is back `after` rounds later.
    """

    scopes: Mapping[str, float] = field(default_factory=lambda: {"client": 1.0})
    leavers: Mapping[str, float] = field(default_factory=lambda: {"helps": 1.0})
    share: float = 0.3
    deadline: int | None = None
    offline: int = 3
    cancels: float = 0.0
    returns: float = 0.0
    after: int = 4
    cause: str = "consent withdrawn"
    stay: int = 2

    def __post_init__(self) -> None:
        for key, names in (("scopes", SCOPES), ("leavers", LEAVERS)):
            shares: Mapping[str, float] = getattr(self, key)
            for name, share in shares.items():
                require_one_of(key, name, names)
                require_number(f"{key}.{name}", share, at_least=0)
            require(sum(shares.values()) > 0, key, "a share above 0", dict(shares))
        require_number("share", self.share, above=0, at_most=1)
        if self.deadline is not None:
            require_count("deadline", self.deadline)
        require_count("offline", self.offline)
        require_count("after", self.after)
        require_count("stay", self.stay)
        for key in ("cancels", "returns"):
            require_number(key, getattr(self, key), at_least=0, at_most=1)

    def __hash__(self) -> int:
        return hash((tuple(self.scopes.items()), tuple(self.leavers.items()), self.share, self.cancels))

    def drawn(self, now: Moment, count: int, stream: np.random.Generator) -> list[Event]:
        """At most `count` requests of clients that have not asked yet; `stay` clients never ask."""
        free = now.unasked
        count = min(count, max(len(free) - self.stay, 0))
        first = 1 + sum(isinstance(event, Arrival) for event in now.asked)
        who = [int(k) for k in stream.choice(free, count, replace=False)] if count else []
        return [self._request(now, f"r{first + i}", k, stream) for i, k in enumerate(who)]

    def follow_ups(self, now: Moment, seed: int) -> list[Event]:
        """What follows from earlier requests: those that are taken back now, and clients that are back."""
        found: list[Event] = []
        for asked in (event for event in now.asked if isinstance(event, Arrival)):
            cancelled, returns = numpy_stream(seed, "stream", "follow", asked.id).random(2)
            if cancelled < self.cancels:
                found += [Cancel(asked.id, now.round)] if now.round == asked.issued + 1 else []
            elif asked.client is not None and asked.scope == "client" and returns < self.returns:
                back = Return(f"{asked.id}-back", now.round, asked.client, "asked and given")
                found += [back] if now.round == asked.issued + self.after else []
        return found

    def _request(self, now: Moment, name: str, client: ClientId, stream: np.random.Generator) -> Arrival:
        scope, leaver = _one_of(self.scopes, stream), _one_of(self.leavers, stream)
        labels = now.holdings.labels[client]
        classes: tuple[int, ...] = ()
        rows: tuple[int, ...] = ()
        if scope == "classes":
            classes = (int(stream.choice(np.unique(labels))),)
        if scope == "rows":
            size = max(1, round(self.share * len(labels)))
            rows = tuple(sorted(int(i) for i in stream.choice(len(labels), size, replace=False)))
        at = now.round
        return Arrival(
            name, at, client, scope, classes, rows, None if self.deadline is None else at + self.deadline,
            self.cause, leaver, (at, at + self.offline) if leaver == "offline" else None,
        )  # fmt: skip


def _one_of(shares: Mapping[K, float], stream: np.random.Generator) -> K:
    names, weights = list(shares), np.array(list(shares.values()), np.float64)
    return names[int(stream.choice(len(names), p=weights / weights.sum()))]
