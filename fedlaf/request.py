"""What a federation is asked to forget: one normal form, client -> positions of its rows.

A demand (`WithdrawClients`, `RemoveSamples`, ...) is what a user writes; held against the
federation's `Holdings` it becomes a `ForgetRequest`. Everything behind that point knows the
normal form only, so client, sample, class and wrong-label removal share one path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fedlaf.seeding import numpy_stream
from fedlaf.types import ClientId, InvalidValue, require, require_count, require_number


@dataclass(frozen=True)
class Holdings:
    """What must be known of a federation to state a request, by client in partition order.

    `labels[k]` are the labels that client k holds (int64 [P]), `wrong[k]` marks those that
    were planted wrong (bool [P]).
    """

    labels: tuple[npt.NDArray[np.int64], ...]
    wrong: tuple[npt.NDArray[np.bool_], ...]
    num_classes: int

    def size(self, client: ClientId) -> int:
        """Number of rows of `client`."""
        return len(self.labels[client])

    def known(self, clients: Iterable[ClientId] | None, key: str = "clients") -> list[ClientId]:
        """The clients named, checked (None: all). Raises InvalidValue for unknown or repeated ones."""
        count = len(self.labels)
        if clients is None:
            return list(range(count))
        named = list(clients)
        for client in named:
            whole = isinstance(client, int) and not isinstance(client, bool)
            require(whole and 0 <= client < count, key, f"client ids from 0 to {count - 1}", client)
        require(len(set(named)) == len(named), key, "each client once", named)
        return named


@dataclass(frozen=True)
class ForgetRequest:
    """Rows to forget: `rows[k]` are sorted positions among client k's rows; `withdrawn` leave whole."""

    rows: Mapping[ClientId, tuple[int, ...]] = field(default_factory=dict)
    withdrawn: frozenset[ClientId] = frozenset()

    @classmethod
    def of_samples(
        cls, rows: Mapping[ClientId, Sequence[int]], sizes: Mapping[ClientId, int]
    ) -> ForgetRequest:
        """The request for these rows; a client whose rows are all named counts as withdrawn.

        Raises InvalidValue, naming them, for unknown clients, duplicates, and positions that are
        negative or past the client's last row.
        """
        normal: dict[ClientId, tuple[int, ...]] = {}
        for client in sorted(rows):
            named = list(rows[client])
            require(client in sizes, "clients", f"one of the {len(sizes)} clients", client)
            outside = [row for row in named if not 0 <= row < sizes[client]]
            bounds = f"positions from 0 to {sizes[client] - 1} for client {client}"
            require(not outside, "rows", bounds, outside[:5])
            twice = sorted({row for row in named if named.count(row) > 1}) if _repeats(named) else []
            require(not twice, "rows", f"each row of client {client} once", twice[:5])
            if named:
                normal[client] = tuple(sorted(named))
        withdrawn = frozenset(k for k, named_ in normal.items() if len(named_) == sizes[k])
        return cls(normal, withdrawn)

    @classmethod
    def of_clients(cls, clients: Sequence[ClientId], sizes: Mapping[ClientId, int]) -> ForgetRequest:
        """The request for all rows of `clients`. Raises InvalidValue for unknown or repeated ones."""
        require(len(set(clients)) == len(clients), "clients", "each client once", list(clients))
        for client in clients:
            require(client in sizes, "clients", f"one of the {len(sizes)} clients", client)
        return cls.of_samples({client: range(sizes[client]) for client in clients}, sizes)

    @classmethod
    def of_classes(
        cls,
        classes: Sequence[int],
        holdings: Holdings,
        clients: Iterable[ClientId] | None = None,
    ) -> ForgetRequest:
        """The request for the rows that carry one of `classes`. Raises InvalidValue for unknown ones."""
        count = holdings.num_classes
        for label in classes:
            require(0 <= label < count, "classes", f"classes from 0 to {count - 1}", label)
        return cls._marked({k: np.isin(holdings.labels[k], list(classes)) for k in holdings.known(clients)})

    @classmethod
    def of_wrong_labels(cls, holdings: Holdings, clients: Iterable[ClientId] | None = None) -> ForgetRequest:
        """The request for the rows whose labels were planted wrong."""
        return cls._marked({k: holdings.wrong[k] for k in holdings.known(clients)})

    @classmethod
    def _marked(cls, marks: Mapping[ClientId, npt.NDArray[np.bool_]]) -> ForgetRequest:
        rows = {k: [int(i) for i in np.flatnonzero(mark)] for k, mark in marks.items()}
        return cls.of_samples(rows, {k: len(mark) for k, mark in marks.items()})

    @property
    def clients(self) -> tuple[ClientId, ...]:
        """The clients that have rows to forget, in order."""
        return tuple(sorted(self.rows))

    def of(self, client: ClientId) -> tuple[int, ...]:
        """The positions that `client` forgets, empty when it forgets none."""
        return self.rows.get(client, ())

    def joined(self, other: ForgetRequest, sizes: Mapping[ClientId, int]) -> ForgetRequest:
        """The union: this request and `other` as one."""
        clients = {*self.rows, *other.rows}
        return ForgetRequest.of_samples({k: sorted({*self.of(k), *other.of(k)}) for k in clients}, sizes)

    def without(self, gone: ForgetRequest) -> ForgetRequest:
        """What is left of this request without the rows `gone`; a client left with none has left it."""
        rows = {k: tuple(sorted(set(v) - set(gone.of(k)))) for k, v in self.rows.items()}
        return ForgetRequest({k: v for k, v in rows.items() if v}, self.withdrawn - gone.withdrawn)


def _repeats(named: Sequence[int]) -> bool:
    return len(set(named)) != len(named)


class Demand(Protocol):
    """What a user asks for, before it is held against a federation."""

    @property
    def round(self) -> int | None:
        """The training round after which it arrives; None is after the last one."""

    def resolve(self, holdings: Holdings) -> ForgetRequest:
        """The rows that this demand means."""


@dataclass(frozen=True)
class WithdrawClients:
    """The clients leave, with all their rows."""

    clients: Sequence[ClientId]
    round: int | None = None

    def __post_init__(self) -> None:
        _require_named("clients", self.clients)
        _require_round(self.round)

    def resolve(self, holdings: Holdings) -> ForgetRequest:
        """All rows of the clients. Raises InvalidValue for unknown clients, or when none would stay."""
        clients = holdings.known(self.clients)
        total = len(holdings.labels)
        expected = f"fewer than the {total} clients of the federation"
        require(len(clients) < total, "clients", expected, clients)
        return ForgetRequest.of_clients(clients, {k: holdings.size(k) for k in clients})


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

    def __post_init__(self) -> None:
        one = (self.share is None) != (self.rows is None)
        require(one, "share", "either share or rows", (self.share, self.rows))
        if self.share is not None:
            require_number("share", self.share, above=0, at_most=1)
        _require_round(self.round)

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

    def __post_init__(self) -> None:
        _require_named("classes", self.classes)
        _require_round(self.round)

    def resolve(self, holdings: Holdings) -> ForgetRequest:
        """The rows that carry those labels. Raises InvalidValue for unknown classes."""
        return ForgetRequest.of_classes(self.classes, holdings, self.clients)


@dataclass(frozen=True)
class RemoveWrongLabels:
    """The rows whose labels were planted wrong are removed, at all clients or at those named."""

    clients: Sequence[ClientId] | None = None
    round: int | None = None

    def __post_init__(self) -> None:
        _require_round(self.round)

    def resolve(self, holdings: Holdings) -> ForgetRequest:
        """The rows with planted labels."""
        return ForgetRequest.of_wrong_labels(holdings, self.clients)


def schedule(
    demands: Sequence[Demand], holdings: Holdings, rounds: int
) -> tuple[tuple[int, ForgetRequest], ...]:
    """The demands as (training round, request), in the order of their arrival.

    Raises InvalidValue for a round past the last, for a request on a client that has left by
    then, for one that asks for nothing (or only for rows that are gone), and for one that leaves
    the federation without a row.
    """
    sizes = {k: holdings.size(k) for k in range(len(holdings.labels))}
    gone = ForgetRequest()
    served: list[tuple[int, ForgetRequest]] = []
    for demand in sorted(demands, key=lambda d: rounds if d.round is None else d.round):
        at = rounds if demand.round is None else demand.round
        require(at <= rounds, "round", f"a training round from 1 to {rounds}", at)
        asked = demand.resolve(holdings)
        # A removal that names nobody means the clients that are still there.
        named = getattr(demand, "clients", None) or getattr(demand, "rows", None) or ()
        again = sorted(gone.withdrawn & {int(k) for k in named})
        require(not again, "clients", "clients that have not withdrawn earlier", again)
        asked = asked.without(gone)
        require(bool(asked.rows), "request", "at least one row to forget", _name(demand))
        gone = gone.joined(asked, sizes)
        everyone = len(gone.withdrawn) == len(sizes)
        require(not everyone, "request", "at least one row to remain", _name(demand))
        # Whoever has no row left has withdrawn, whatever the form of the last demand.
        left = frozenset(k for k in asked.rows if k in gone.withdrawn)
        served.append((at, ForgetRequest(asked.rows, left)))
    return tuple(served)


def _name(demand: Demand) -> str:
    return type(demand).__name__


def _require_named(key: str, named: object) -> None:
    listed = isinstance(named, Sequence) and not isinstance(named, str) and len(named) > 0
    require(listed, key, "a list of at least one", named)
    for value in named:  # type: ignore[attr-defined]
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise InvalidValue(key, "whole numbers of at least 0", value)


def _require_round(value: int | None) -> None:
    if value is not None:
        require_count("round", value)
