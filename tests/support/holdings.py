"""What a federation holds, as requests must know it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedlaf.core.request import Holdings


def holdings(labels: Sequence[Sequence[int]], wrong: Sequence[Sequence[int]] | None = None) -> Holdings:
    """Clients with these labels of three classes; `wrong` marks with 1 those that were planted wrong."""
    marks = wrong or [[0] * len(held) for held in labels]
    return Holdings(
        tuple(np.array(held, dtype=np.int64) for held in labels),
        tuple(np.array(mark, dtype=bool) for mark in marks),
        3,
    )


FOUR = holdings(
    [[0, 1, 2, 0, 1, 2], [0, 0, 0, 0], [1, 2, 1], [2, 2]],
    [[0, 1, 0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1], [0, 0]],
)
"""Four clients: of all classes, of one class, all planted wrong, of one class."""
