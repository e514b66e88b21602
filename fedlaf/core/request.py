"""What a federation is asked to forget: one normal form, client -> positions of its rows.

Client, sample, class and wrong-label removal share one path, because everything behind this point
knows the normal form only. `fedlaf.data.request_specs` has what a user writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from fedlaf.core.errors import require
from fedlaf.core.types import ClientId


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
    """Rows to forget: `rows[k]` are sorted positions among client k's rows; `withdrawn` leave whole.

    When they are `offline`, no client of the request answers any more. `wrong_labels` says that the rows were
    named because their labels are wrong.
    """

    rows: Mapping[ClientId, tuple[int, ...]] = field(default_factory=dict)
    withdrawn: frozenset[ClientId] = frozenset()
    offline: bool = False
    wrong_labels: bool = False

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
            not_whole = [
                row for row in named if not isinstance(row, (int, np.integer)) or isinstance(row, bool)
            ]
            require(not not_whole, "rows", "whole numbers", not_whole[:5])
            outside = [row for row in named if not 0 <= row < sizes[client]]
            bounds = f"positions from 0 to {sizes[client] - 1} for client {client}"
            require(not outside, "rows", bounds, outside[:5])
            twice = sorted({row for row in named if named.count(row) > 1}) if _repeats(named) else []
            require(not twice, "rows", f"each row of client {client} once", twice[:5])
            if named:
                normal[client] = tuple(sorted(int(row) for row in named))
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
        marked = cls._marked({k: holdings.wrong[k] for k in holdings.known(clients)})
        return replace(marked, wrong_labels=True)

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

    def without(self, removed: ForgetRequest) -> ForgetRequest:
        """What is left of this request without the rows `removed`; a client left with none has left it."""
        rows = {k: tuple(sorted(set(v) - set(removed.of(k)))) for k, v in self.rows.items()}
        left = {k: v for k, v in rows.items() if v}
        return replace(self, rows=left, withdrawn=self.withdrawn - removed.withdrawn)


def _repeats(named: Sequence[int]) -> bool:
    return len(set(named)) != len(named)


@dataclass(frozen=True)
class RowSplit:
    """Which of a client's rows an instruction is about, as positions.

    `forget` are the rows of the request being served, `removed` those of earlier requests, which
    nobody touches again; `withdraws` says that all rows are to be forgotten (then both are empty).
    """

    forget: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    withdraws: bool = False
