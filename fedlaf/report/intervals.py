"""Means over seeds and their 95 % Student-t intervals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan, nan

import numpy as np

LEVEL = 0.95
LEAST = 1.0
"""Points of half-width that are no scatter, however small the mean."""


@dataclass(frozen=True)
class Interval:
    """A mean, and the half-width of its interval: NaN below two values."""

    mean: float
    half: float

    @property
    def scatters(self) -> bool:
        """Whether the half-width is above both the mean itself and LEAST."""
        return self.half > max(self.mean, LEAST)


def interval(values: Iterable[float]) -> Interval:
    """The mean of the values that are numbers, with its 95 % Student-t interval."""
    known = np.array([v for v in values if not isnan(v)])
    if len(known) < 2:
        return Interval(float(known[0]) if len(known) else nan, nan)
    from scipy import stats

    half = stats.t.ppf((1 + LEVEL) / 2, len(known) - 1) * stats.sem(known)
    return Interval(float(known.mean()), float(half))
