"""Sums that come out the same, bit for bit, in any order and any grouping of their terms.

Each number is split into three parts on fixed grids, and each grid's sum is exact in double precision
(pre-rounding: Demmel and Nguyen, ARITH 2013; the grids are absolute, so that nobody need know how large the
terms will be). What is below 2^-64 is lost.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fedlaf.core.types import Weights

GRIDS = (1.0, 2.0**-32, 2.0**-64)
"""Steps of the grids. Up to 2^20 terms of up to 2^50 in all keep each grid's sum below 2^52 steps."""

Parts = npt.NDArray[np.float64]
"""One array on all grids: [3, ...]."""


def split(array: npt.NDArray[np.generic]) -> Parts:
    """The parts of an array on each grid, coarsest first."""
    left = array.astype(np.float64)
    parts = []
    for step in GRIDS:
        part = np.rint(left / step) * step
        parts.append(part)
        left = left - part
    return np.stack(parts)


def exact_sum(many: Iterable[Weights]) -> Weights:
    """sum_k x_k for each name, float64, the same in any order. Raises ValueError without a term."""
    sums: dict[str, Parts] = {}
    for weights in many:
        for name, array in weights.items():
            sums[name] = sums[name] + split(array) if name in sums else split(array)
    if not sums:
        raise ValueError("a sum needs at least one term")
    return {name: parts[0] + (parts[1] + parts[2]) for name, parts in sums.items()}
