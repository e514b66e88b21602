"""Fairness to those who remain: each client's accuracy beside that of the retrained model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fedlaf.core.types import ClientId, Indices
from fedlaf.evaluation.measures import Probabilities

WORSE = -2.0
"""Points of accuracy below the retrained model's from which on a client is counted as treated worse."""


def accuracy_by_client(
    found: Probabilities, labels: npt.NDArray[np.int64], owners: Indices
) -> dict[ClientId, float]:
    """Percent of each client's rows that are right, from probabilities [N, C], labels [N] and owners [N]."""
    clients, place = np.unique(owners, return_inverse=True)
    right = np.bincount(place, weights=found.argmax(1) == labels, minlength=len(clients))
    shares = 100.0 * right / np.maximum(np.bincount(place, minlength=len(clients)), 1)
    return dict(zip(clients.tolist(), shares.tolist(), strict=True))


def fairness(unlearned: Mapping[ClientId, float], retrained: Mapping[ClientId, float]) -> dict[str, float]:
    """Differences of accuracy by client, unlearned minus retrained, in points: the `worst`, their standard
    `deviation`, and the share of clients more than 2 points `below`, in percent. Empty without clients.

    >>> fairness({0: 90.0, 1: 80.0}, {0: 90.0, 1: 83.0})
    {'worst': -3.0, 'deviation': 1.5, 'below': 50.0}
    """
    apart = np.array([unlearned[k] - retrained[k] for k in sorted(unlearned.keys() & retrained.keys())])
    if not len(apart):
        return {}
    return {
        "worst": float(apart.min()),
        "deviation": float(apart.std()),
        "below": 100.0 * float((apart < WORSE).mean()),
    }
