"""Who holds which rows: pure functions of labels, groups, number of clients and a random stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fedlaf.core.errors import InvalidValue, require, require_count, require_number
from fedlaf.core.types import ClientId, Indices

Labels = npt.NDArray[np.int64]
Groups = Indices | None
"""The natural group of each row [N], where the dataset has any."""


class Partition(Protocol):
    """Splits rows among clients: every row to exactly one client."""

    def __call__(
        self, labels: Labels, clients: int, stream: np.random.Generator, *, groups: Groups = None
    ) -> tuple[Indices, ...]:
        """Row indices of each client, shuffled within the client."""


@dataclass(frozen=True)
class Iid:
    """Equal shares (to one row) of a shuffle."""

    def __call__(
        self, labels: Labels, clients: int, stream: np.random.Generator, *, groups: Groups = None
    ) -> tuple[Indices, ...]:
        """Sizes differ by at most one. Raises InvalidValue with fewer rows than clients."""
        _require_enough(labels, clients, 1)
        order = stream.permutation(len(labels)).astype(np.int64)
        return tuple(np.array_split(order, clients))


@dataclass(frozen=True)
class Natural:
    """Each client holds one natural group of the dataset (a writer, a device), in the groups' order.

    Of more groups than clients, client k holds the groups k, k + K, k + 2 K, ...
    """

    def __call__(
        self, labels: Labels, clients: int, stream: np.random.Generator, *, groups: Groups = None
    ) -> tuple[Indices, ...]:
        """Raises InvalidValue for a dataset without groups, or with fewer than clients."""
        if groups is None:
            raise InvalidValue("partition", "another one than natural for data without groups", "natural")
        named, number = np.unique(groups, return_inverse=True)
        require(clients <= len(named), "clients", f"at most the {len(named)} groups of the data", clients)
        return tuple(
            stream.permutation(np.flatnonzero(number % clients == k)).astype(np.int64) for k in range(clients)
        )


@dataclass(frozen=True)
class Dirichlet:
    """Label skew: of each class, client shares drawn from Dirichlet(alpha) (Hsu, Qi, Brown 2019).

    Small alpha is skewed. Clients end up with at least `min_rows` rows (0 allows empty ones):
    what is missing is taken, row by row, from whoever holds most.
    """

    alpha: float = 0.3
    min_rows: int = 1

    def __post_init__(self) -> None:
        require_number("alpha", self.alpha, above=0)
        require_count("min_rows", self.min_rows, at_least=0)

    def __call__(
        self, labels: Labels, clients: int, stream: np.random.Generator, *, groups: Groups = None
    ) -> tuple[Indices, ...]:
        """Raises InvalidValue when there are fewer than `min_rows` rows a client."""
        _require_enough(labels, clients, self.min_rows)
        parts: list[list[Indices]] = [[] for _ in range(clients)]
        for label in np.unique(labels):
            of_class = stream.permutation(np.flatnonzero(labels == label))
            shares = _proportions(stream, self.alpha, clients)
            cuts = np.round(np.cumsum(shares)[:-1] * len(of_class)).astype(int)
            for part, rows in zip(parts, np.split(of_class, cuts), strict=True):
                part.append(rows)
        return _finish([np.concatenate(part) for part in parts], self.min_rows, stream)


@dataclass(frozen=True)
class Shards:
    """Rows sorted by label, cut into equal shards, `per_client` of them each (McMahan et al. 2017)."""

    per_client: int = 2

    def __post_init__(self) -> None:
        require_count("per_client", self.per_client)

    def __call__(
        self, labels: Labels, clients: int, stream: np.random.Generator, *, groups: Groups = None
    ) -> tuple[Indices, ...]:
        """Raises InvalidValue with fewer rows than shards."""
        count = clients * self.per_client
        _require_enough(labels, clients, self.per_client)
        shuffled = stream.permutation(len(labels))
        ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]
        shards = np.array_split(ordered, count)
        dealt = stream.permutation(count).reshape(clients, self.per_client)
        return tuple(
            stream.permutation(np.concatenate([shards[i] for i in hand])).astype(np.int64) for hand in dealt
        )


@dataclass(frozen=True)
class Overlap:
    """Knowledge of one client alone, and knowledge that it shares: `client` holds all rows of the class
    `unique` and a `share` of those of the class `shared`, and no others; the others hold the rest in equal
    shares.

    The partition of the overlap study of Zhong et al. (CVPR 2025, table 2).
    """

    client: ClientId = 0
    unique: int = 0
    shared: int = 1
    share: float = 0.9

    def __post_init__(self) -> None:
        for key in ("client", "unique", "shared"):
            require_count(key, getattr(self, key), at_least=0)
        require(self.unique != self.shared, "shared", "another class than unique", self.shared)
        require_number("share", self.share, above=0, at_most=1)

    def __call__(
        self, labels: Labels, clients: int, stream: np.random.Generator, *, groups: Groups = None
    ) -> tuple[Indices, ...]:
        """Raises InvalidValue for a client or a class that is not there, and with fewer rows than clients."""
        require(self.client < clients, "client", f"client ids from 0 to {clients - 1}", self.client)
        for key in ("unique", "shared"):
            value = getattr(self, key)
            require(bool((labels == value).any()), key, "a class that the data have", value)
        _require_enough(labels, clients, 1)
        order = stream.permutation(len(labels)).astype(np.int64)
        shared = order[labels[order] == self.shared]
        own = shared[: round(self.share * len(shared))]
        mine = np.concatenate([order[labels[order] == self.unique], own])
        theirs = order[~np.isin(order, mine)]
        require(len(theirs) >= clients - 1, "clients", f"at most {len(theirs) + 1}", clients)
        parts = list(np.array_split(theirs, max(clients - 1, 1)))
        parts = parts[: clients - 1]
        parts.insert(self.client, stream.permutation(mine).astype(np.int64))
        return tuple(parts)


@dataclass(frozen=True)
class QuantitySkew:
    """Client sizes drawn from Dirichlet(alpha), labels as they come; at least `min_rows` each."""

    alpha: float = 1.0
    min_rows: int = 1

    def __post_init__(self) -> None:
        require_number("alpha", self.alpha, above=0)
        require_count("min_rows", self.min_rows, at_least=0)

    def __call__(
        self, labels: Labels, clients: int, stream: np.random.Generator, *, groups: Groups = None
    ) -> tuple[Indices, ...]:
        """Raises InvalidValue when there are fewer than `min_rows` rows a client."""
        _require_enough(labels, clients, self.min_rows)
        order = stream.permutation(len(labels))
        cuts = np.cumsum(_proportions(stream, self.alpha, clients))[:-1] * len(order)
        return _finish(list(np.split(order, np.round(cuts).astype(int))), self.min_rows, stream)


def _proportions(stream: np.random.Generator, alpha: float, clients: int) -> npt.NDArray[np.float64]:
    shares = stream.dirichlet(np.full(clients, alpha))
    # For a tiny alpha all gamma draws can underflow to zero and numpy returns NaN; its limit
    # for alpha -> 0 is that one client holds the whole class.
    if not np.isfinite(shares).all():
        shares = np.zeros(clients)
        shares[stream.integers(clients)] = 1.0
    return shares


def _finish(parts: list[Indices], min_rows: int, stream: np.random.Generator) -> tuple[Indices, ...]:
    mixed = [stream.permutation(part).astype(np.int64) for part in parts]
    for poor in range(len(mixed)):
        while len(mixed[poor]) < min_rows:
            rich = max(range(len(mixed)), key=lambda k: len(mixed[k]))
            mixed[poor] = np.append(mixed[poor], mixed[rich][-1])
            mixed[rich] = mixed[rich][:-1]
    return tuple(mixed)


def _require_enough(labels: Labels, clients: int, each: int) -> None:
    expected = f"at most {len(labels) // max(each, 1)} clients for {len(labels)} rows"
    require(len(labels) >= clients * each, "clients", expected, clients)
