"""Weighted means that come out the same, bit for bit, in any order and any grouping of their terms.

Each term is rounded to a grid that is coarse enough for all partial sums to be exact in double
precision, and much finer than single precision (pre-rounding: Demmel and Nguyen, "Fast Reproducible
Floating-Point Summation", ARITH 2013). So workers may add what they have, whoever has it.
"""

from __future__ import annotations

from math import frexp, isnan
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlaf.core.types import Weights
from fedlaf.core.weights import in_dtype

ROOM = 12
"""Bits of room: a term may be 2^11 times as large as the largest number of the array it is like."""

COUNT_ROOM = 32
"""The same for arrays of whole numbers, which are counts and may have just begun."""

DIGITS = 52
"""Bits behind the leading one of a double."""

BLOCK = 2**14
"""Numbers that are worked on at a time: a term stays in the processor's cache on its way into the sum."""

Doubles = npt.NDArray[np.float64]


class TooLarge(ValueError):
    """A term outside of the grid: an update that diverged."""


class Mean:
    """The mean of arrays like `like`, weighted by whole numbers that sum up to `most` or less.

    Sums are kept over a power of two, so that no weight is rounded; `value` divides by the weights
    that were seen.
    """

    def __init__(self, like: Weights, most: int) -> None:
        self.like = like
        self.scale = 0.5 ** max(most - 1, 0).bit_length()
        self.weight = 0
        self.sums = {name: np.zeros(array.shape, np.float64) for name, array in like.items()}
        self._limits = {name: _limit(array) for name, array in like.items()}
        self._term = np.empty(BLOCK, np.float64)

    def add(self, weights: Weights, weight: int) -> None:
        """Add one term. Raises TooLarge, with the sums as they were, for what the grid cannot hold."""
        for name, array in weights.items():
            largest = largest_of(array)
            if not largest < self._limits[name] / 2:
                raise TooLarge(f"{name} holds numbers of {largest:.1e}")
        for name, array in weights.items():
            self._add(self.sums[name].reshape(-1), array.reshape(-1), weight * self.scale, self._limits[name])
        self.weight += weight

    def _add(self, sums: Doubles, array: npt.NDArray[Any], factor: float, limit: float) -> None:
        # Adding and taking away 1.5 * 2^52 grid steps rounds to the grid, ties always alike.
        magic = 1.5 * 2.0**DIGITS * limit * 0.5**DIGITS
        for start in range(0, array.size, BLOCK):
            part = array[start : start + BLOCK]
            term = self._term[: part.size]
            np.multiply(part, factor, out=term, dtype=np.float64)
            term += magic
            term -= magic
            sums[start : start + BLOCK] += term

    def join(self, sums: Weights, weight: int) -> None:
        """Add the sums of another mean, made like this one."""
        for name, array in sums.items():
            self.sums[name] += array
        self.weight += weight

    def value(self) -> Weights:
        """The mean, in the dtypes of `like`. Raises ValueError without a positive weight."""
        if self.weight <= 0:
            raise ValueError("a mean needs at least one positive weight")
        whole = self.weight * self.scale
        means = {name: self.sums[name] / whole for name in self.like}
        return {name: in_dtype(means[name], array.dtype) for name, array in self.like.items()}


def _limit(array: npt.NDArray[np.generic]) -> float:
    """The power of two that no partial sum reaches."""
    if not np.issubdtype(array.dtype, np.floating):
        return 2.0**COUNT_ROOM
    return 2.0 ** (frexp(max(largest_of(array), 1.0))[1] + ROOM)


def largest_of(array: npt.NDArray[Any]) -> float:
    """The largest absolute number, 0 of none, NaN where there is one; without a copy of the array."""
    if array.size == 0:
        return 0.0
    low, high = float(array.min()), float(array.max())
    return high if isnan(high) else max(-low, high)
