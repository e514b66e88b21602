"""The figures of a stream in a comparison: a number each of a run."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from typing import Any

FIGURES = {
    "served": ("served", 1),
    "not_served": ("not served", 1),
    "missed": ("missed deadline", 1),
    "time_median": ("time to forget, median (rounds)", 1),
    "time_max": ("largest", 1),
    "exposure_median": ("exposure, median (rounds)", 1),
    "gap_largest": ("largest distance at a prefix", 2),
    "resurfaced": ("resurfaced, most (points)", 1),
    "worst": ("worst client (points)", 1),
    "below": ("clients below -2 (%)", 0),
    "each": ("passes, % of retraining after each", 1),
    "once": ("passes, % of retraining once", 1),
}
"""Title and digits of each figure; distances are to the model retrained to the same round."""


def stream_figures(report: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one run's report; none of a run without a stream."""
    stream = report.get("stream")
    if not stream:
        return {}
    counts, times = stream["counts"], stream["times"]
    served = counts["completed"] - counts["not_forgotten"]
    fair = stream["prefixes"][-1]["fairness"] if stream["prefixes"] else {}
    passes = stream["costs"]["passes"]
    spent = {way: values[-1] if values else nan for way, values in passes.items()}
    return {
        "served": served,
        "not_served": counts["issued"] - counts["cancelled"] - served,
        "missed": counts["missed_deadline"],
        "time_median": times["time"].get("median", nan),
        "time_max": times["time"].get("max", nan),
        "exposure_median": times["exposure"].get("median", nan),
        "gap_largest": max((prefix["gap"] for prefix in stream["prefixes"]), default=nan),
        "resurfaced": max(stream["resurfaced"].values(), default=nan),
        "worst": fair.get("worst", nan),
        "below": fair.get("below", nan),
        "each": _share(spent["method"], spent["each"]),
        "once": _share(spent["method"], spent["once"]),
    }


def _share(spent: float, whole: float) -> float:
    return 100.0 * spent / whole if whole else nan
