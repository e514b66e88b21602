"""What a user asks for: demands, each held against a federation, in the order of their arrival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from fedlaf.core.errors import InvalidValue, require, require_count, require_number
from fedlaf.core.request import ForgetRequest, Holdings
from fedlaf.core.seeding import numpy_stream
from fedlaf.core.settings import require_effect
from fedlaf.core.types import ClientId


class RequestSpec(Protocol):
    """What a user asks for, before it is held against a federation."""

    @property
    def round(self) -> int | None:
        """The training round after which it arrives; None is after the last one."""

    @property
    def availability(self) -> str:
        """Whether its clients are `online` to help with forgetting, or `offline`."""

    def resolve(self, holdings: Holdings) -> ForgetRequest:
        """The rows that this demand means."""


@dataclass(frozen=True)
class WithdrawClients:
    """The clients leave, with all their rows."""

    clients: Sequence[ClientId]
    round: int | None = None
    availability: str = "online"

    def __post_init__(self) -> None:
        _require_named("clients", self.clients)
        _require_arrival(self)

    def resolve(self, holdings: Holdings) -> ForgetRequest:
        """All rows of the clients. Raises InvalidValue for unknown clients, or when none would stay."""
        clients = holdings.known(self.clients)
        total = len(holdings.labels)
        expected = f"fewer than the {total} clients of the federation"
        require(len(clients) < total, "clients", expected, clients)
        return ForgetRequest.of_clients(clients, {k: holdings.size(k) for k in clients})


@dataclass(frozen=True)
class EachClient:
    """Each of the clients (None: of all) leaves once, with all its rows: alternatives, not a sequence."""

    clients: Sequence[ClientId] | None = None
    round: int | None = None
    availability: str = "online"

    def __post_init__(self) -> None:
        if self.clients is not None:
            _require_named("clients", self.clients)
        _require_arrival(self)

    def in_turn(self, holdings: Holdings) -> list[WithdrawClients]:
        """The request of each client. Raises InvalidValue for unknown clients."""
        clients = holdings.known(self.clients)
        return [WithdrawClients([client], self.round, self.availability) for client in clients]

    def resolve(self, holdings: Holdings) -> ForgetRequest:
        """Raises InvalidValue: there is no one request that this means."""
        raise InvalidValue("requests", "each_client alone, without other requests", type(self).__name__)


@dataclass(frozen=True)
class RemoveSamples:
    """Some rows are removed: named ones (`rows`), or a random `share` of each class of each client.

    `clients` None means all; `classes` None means rows of any class.
    """

    clients: Sequence[ClientId] | None = None
    share: float | None = None
    classes: Sequence[int] | None = None
    rows: Mapping[ClientId, Sequence[int]] | None = None
    seed: int = 0
    round: int | None = None
    availability: str = "online"

    def __post_init__(self) -> None:
        if self.rows is not None:
            _require_rows(self.rows)
        one = (self.share is None) != (self.rows is None)
        require(one, "share", "either share or rows", (self.share, self.rows))
        classes = list(self.classes or ())
        require(len(set(classes)) == len(classes), "classes", "each class once", classes)
        if self.share is not None:
            require_number("share", self.share, above=0, at_most=1)
        require_effect(self, "clients classes seed", when="share", holds=self.share is not None)
        _require_arrival(self)

    def resolve(self, holdings: Holdings) -> ForgetRequest:
        """The named rows, or the seeded draw. Raises InvalidValue for what is not there."""
        if self.rows is not None:
            sizes = {k: holdings.size(k) for k in range(len(holdings.labels))}
            return ForgetRequest.of_samples({int(k): list(v) for k, v in self.rows.items()}, sizes)
        clients = holdings.known(self.clients)
        drawn = {k: self._draw(holdings, k) for k in clients}
        return ForgetRequest.of_samples(drawn, {k: holdings.size(k) for k in clients})

    def _draw(self, holdings: Holdings, client: ClientId) -> list[int]:
        stream = numpy_stream(self.seed, "remove_samples", client)
        classes = range(holdings.num_classes) if self.classes is None else self.classes
        drawn: list[int] = []
        for label in classes:
            known = 0 <= label < holdings.num_classes
            require(known, "classes", f"classes from 0 to {holdings.num_classes - 1}", label)
            of_class = np.flatnonzero(holdings.labels[client] == label)
            count = round((self.share or 0.0) * len(of_class))
            drawn += [int(i) for i in stream.choice(of_class, count, replace=False)]
        return drawn


@dataclass(frozen=True)
class RemoveClasses:
    """All rows of `classes` are removed, at all clients or at those named."""

    classes: Sequence[int]
    clients: Sequence[ClientId] | None = None
    round: int | None = None
    availability: str = "online"

    def __post_init__(self) -> None:
        _require_named("classes", self.classes)
        _require_arrival(self)

    def resolve(self, holdings: Holdings) -> ForgetRequest:
        """The rows that carry those labels. Raises InvalidValue for unknown classes."""
        return ForgetRequest.of_classes(self.classes, holdings, self.clients)


@dataclass(frozen=True)
class RemoveWrongLabels:
    """The rows whose labels were planted wrong are removed, at all clients or at those named."""

    clients: Sequence[ClientId] | None = None
    round: int | None = None
    availability: str = "online"

    def __post_init__(self) -> None:
        _require_arrival(self)

    def resolve(self, holdings: Holdings) -> ForgetRequest:
        """The rows with planted labels."""
        return ForgetRequest.of_wrong_labels(holdings, self.clients)


def schedule(
    specs: Sequence[RequestSpec], holdings: Holdings, rounds: int
) -> tuple[tuple[int, ForgetRequest], ...]:
    """The demands as (training round, request), in the order of their arrival.

    Those of `EachClient` are alternatives: each as if there were no other.

    Raises InvalidValue for a round past the last, for a request on a client that has left by
    then, for one that asks for nothing (or only for rows that are gone), for one that leaves
    the federation without a row, and for clients that are offline but stay.
    """
    if len(specs) == 1 and isinstance(specs[0], EachClient):
        turns = specs[0].in_turn(holdings)
        return tuple(schedule([alone], holdings, rounds)[0] for alone in turns)
    sizes = {k: holdings.size(k) for k in range(len(holdings.labels))}
    removed = ForgetRequest()
    served: list[tuple[int, ForgetRequest]] = []
    for spec in sorted(specs, key=lambda d: rounds if d.round is None else d.round):
        at = rounds if spec.round is None else spec.round
        require(at <= rounds, "round", f"a training round from 1 to {rounds}", at)
        asked = spec.resolve(holdings)
        # A removal that names nobody means the clients that are still there.
        named = getattr(spec, "clients", None) or getattr(spec, "rows", None) or ()
        again = sorted(removed.withdrawn & {int(k) for k in named})
        require(not again, "clients", "clients that have not withdrawn earlier", again)
        asked = asked.without(removed)
        require(bool(asked.rows), "request", "at least one row to forget", _name(spec))
        removed = removed.joined(asked, sizes)
        left = sum(sizes.values()) - sum(len(rows) for rows in removed.rows.values())
        require(left > 0, "request", "at least one row to remain", _name(spec))
        # Whoever has no row left has withdrawn, whatever the form of the last demand.
        withdrawing = frozenset(k for k in asked.rows if k in removed.withdrawn)
        offline = spec.availability == "offline"
        stays = sorted(asked.rows.keys() - withdrawing)
        expected = "online where clients stay with other rows"
        require(not (offline and stays), "availability", expected, spec.availability)
        served.append((at, replace(asked, withdrawn=withdrawing, offline=offline)))
    return tuple(served)


def _name(spec: RequestSpec) -> str:
    return type(spec).__name__


def _require_named(key: str, named: object) -> None:
    listed = isinstance(named, Sequence) and not isinstance(named, str) and len(named) > 0
    require(listed, key, "a list of at least one", named)
    for value in named:  # type: ignore[attr-defined]
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise InvalidValue(key, "whole numbers of at least 0", value)


def _require_rows(rows: object) -> None:
    expected = "a map from clients to lists of positions, {0: [1, 2]}"
    require(isinstance(rows, Mapping), "rows", expected, rows)
    for client, named in rows.items():  # type: ignore[attr-defined]
        whole = isinstance(client, int) or str(client).isdecimal()
        listed = isinstance(named, Sequence) and not isinstance(named, str)
        require(whole and listed, "rows", expected, {client: named})


def _require_arrival(spec: RequestSpec) -> None:
    if spec.round is not None:
        require_count("round", spec.round)
    require(
        spec.availability in ("online", "offline"), "availability", "online or offline", spec.availability
    )
