"""The partition as a page shows it: how many rows of each class each client holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from fedlaf.core.types import Indices
from fedlaf.evaluation import spaced

MOST = 60
"""Clients that a page shows, at most: those of requests first, then evenly spaced ones."""


def partition_view(labels: Sequence[Indices], classes: int, asked: Collection[int]) -> dict[str, Any]:
    """Rows of each class (`counts`, clients x classes) of at most 60 of the clients, by their labels."""
    clients = list(range(len(labels)))
    if len(clients) > MOST:
        first = sorted(asked)[: MOST // 2]
        others = [k for k in clients if k not in set(first)]
        clients = sorted([*first, *(others[i] for i in spaced(len(others), MOST - len(first)))])
    return {
        "of": len(labels),
        "ids": clients,
        "asked": [k for k in clients if k in asked],
        "counts": [np.bincount(labels[k], minlength=classes).tolist() for k in clients],
    }
