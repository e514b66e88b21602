"""Means over seeds and their Student-t intervals."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import pytest
from scipy import stats

from fedlaf.report.intervals import Interval, interval


def test_intervals_are_students() -> None:
    values = [1.5, 0.2, 4.0, 2.2]
    found = interval(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))
    # 4.3027 is the table's t for two degrees of freedom.
    assert interval([1, 2, 3]).half == pytest.approx(4.3027 / 3**0.5, abs=1e-4)
    assert interval([1, nan, 3]) == interval([1, 3])
    assert interval([5]).mean == 5
    assert isnan(interval([5]).half)
    assert isnan(interval([nan]).mean)


@pytest.mark.parametrize(
    ("mean", "half", "scatters"),
    [(0.1, 0.9, False), (0.1, 1.1, True), (3.0, 2.9, False), (3.0, 3.1, True), (1.0, nan, False)],
)
def test_what_scatters(mean: float, half: float, scatters: bool) -> None:
    assert Interval(mean, half).scatters is scatters
