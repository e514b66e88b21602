"""Sums over stored updates: what methods that replay training have in common. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fedlaf.core.types import ClientId, Weights
from fedlaf.core.weights import in_dtype, is_trainable
from fedlaf.method.update_history import UpdateHistory

Sums = dict[str, np.ndarray]
"""Arrays in double precision."""


def mean_update(history: UpdateHistory, round_: int, clients: Iterable[ClientId]) -> Weights | None:
    """The mean of the stored updates of `clients` in a round, weighted by rows, in double precision; None
    when none of theirs is there.
    """
    wanted, rows = set(clients), history.rows(round_)
    total: Weights = {}
    weight = 0
    for client in history.clients(round_):
        if client in wanted:
            weight += rows[client]
            update = history.update(round_, client)
            total = {k: total.get(k, 0) + rows[client] * v.astype(np.float64) for k, v in update.items()}
    return {k: v / weight for k, v in total.items()} if weight else None


def share_of(rows: Mapping[ClientId, int], clients: Iterable[ClientId]) -> float:
    """The share of `clients` in the rows of a round: p_u, 1/K each for equal clients."""
    whole = sum(rows.values())
    return sum(rows.get(client, 0) for client in clients) / whole if whole else 0.0


def moved(weights: Weights, by: Mapping[str, np.ndarray], scale: float = 1.0) -> Weights:
    """Weights + scale * by, computed in double precision, in the dtypes of `weights`; counts rounded."""
    return {
        name: in_dtype(array + scale * by[name], array.dtype) if name in by else array
        for name, array in weights.items()
    }


def with_trainable(weights: Weights, trained: Weights) -> Weights:
    """`weights` with the trainable arrays of `trained`: for methods that add and subtract updates, whose
    running statistics stay those of the model that was trained.
    """
    return {name: trained[name] if is_trainable(name, array) else array for name, array in weights.items()}
