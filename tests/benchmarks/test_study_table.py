"""A study's figures: intervals over seeds, and a table that adds up."""

from __future__ import annotations

from math import isnan, nan
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.study_runs import Done
from benchmarks.study_table import negative_weight, result, table, words
from fedlaf.report.intervals import Interval, interval


def report(gap: float = 2.0, **config: Any) -> dict[str, Any]:
    """A report whose unlearned model is `gap` above the retrained one, its original 8 above."""
    names = ("accuracy_test", "accuracy_forget", "backdoor_success")
    models = {
        model: {**dict.fromkeys(names, 50.0 + more), "gap": abs(more)}
        for model, more in (("original", 8.0), ("unlearned", gap), ("retrained", 0.0))
    }
    asked = {"clients": [0], "models": models, "share_of_retraining_percent": {"passes": 10 * gap}}
    end = {"clients": [], "models": {}}
    return {"requests": [asked, end], "config": config}


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


def test_the_table_adds_up() -> None:
    reports = {seed: Done(report(gap)) for seed, gap in enumerate((-1.0, 2.0, 3.0))}
    doing_nothing = result("original", reports, "original")
    row = result("mine", {**reports, 3: Done(report(99.0), "stopped")}, default=True)
    half = stats.sem([-1, 2, 3]) * stats.t.ppf(0.975, 2)
    distance = stats.sem([1, 2, 3]) * stats.t.ppf(0.975, 2)
    assert (round(half, 2), round(distance, 2)) == (5.17, 2.48)
    assert table([doing_nothing, row]).splitlines() == [
        "|  | mean distance | against default | d test | d forgotten | d backdoor "
        "| client passes % | notes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        "| original | 8.00 ± 0.00 | +6.00 ± 2.48 | +8.00 ± 0.00 | +8.00 ± 0.00 | +8.00 ± 0.00 | 0.0 |  |",
        "| **mine (default)** | 2.00 ± 2.48 |  | +1.33 ± 5.17 | +1.33 ± 5.17 | +1.33 ± 5.17 | 13.3 "
        "| scatters; failed on seed 3: stopped |",
    ]
    said = words([doing_nothing, row], [0, 1, 2, 3])
    assert "**These scatter over the seeds**: mine, 2.00 ± 2.48." in said
    assert "No row scatters" in words([doing_nothing], [0, 1, 2])


def test_one_seed_has_no_interval() -> None:
    one = result("mine", {0: Done(report(2.0))})
    assert "| mine | 2.00 ± - | +2.00 ± - |" in table([one])
    assert words([one], [0]).startswith("One seed, so there are no intervals.")
    assert "scatter" not in words([one], [0])


def test_differences_to_the_default_are_paired_by_seed() -> None:
    default = result(
        "mine", {0: Done(report(1.0)), 1: Done(report(4.0)), 2: Done(None, "lost")}, default=True
    )
    other = result("other", {0: Done(report(-1.5)), 1: Done(report(4.7)), 2: Done(report(99.0))})
    half = stats.sem([0.5, 0.7]) * stats.t.ppf(0.975, 1)
    found = negative_weight(other, default)
    assert (found.mean, found.half) == pytest.approx((0.6, half))
    assert isnan(negative_weight(result("none", {}), default).mean)
    assert " | +0.60 ± 1.27 | " in table([default, other])
    assert "seed by seed" in words([default, other], [0, 1])


def test_rows_of_other_references_are_not_paired() -> None:
    rows = [result("mine", {0: Done(report(1.0))}, default=True), result("other", {0: Done(report(2.0))})]
    assert "negative_weight" not in table(rows, paired=False)
    assert "negative_weight" not in words(rows, [0], paired=False).lower()
    lost = [result("mine", {0: Done(None, "lost")}, default=True), rows[1]]
    assert "negative_weight" not in table(lost)
