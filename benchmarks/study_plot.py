"""The plot of a study: mean distance to the retrained model, and signed differences, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from benchmarks.study_kinds import Study, Sweep
from benchmarks.study_plan import shown
from benchmarks.study_table import MEASURES, Result
from fedlaf.report.intervals import Interval

# Okabe and Ito's colours, and a marker each for those who see none.
SIGNED = {
    "accuracy_test": ("#0072b2", "o"),
    "accuracy_forget": ("#d55e00", "s"),
    "backdoor_success": ("#009e73", "^"),
    "attack_success": ("#cc79a7", "D"),
}
OWN = "#222222"
NOTHING = {"color": "#8a6d00", "linestyle": ":", "linewidth": 2, "label": "original (doing nothing)"}
BAND = {"color": NOTHING["color"], "alpha": 0.12, "linewidth": 0}
BARS = {"capsize": 3, "elinewidth": 1.2, "markersize": 6}


def plot(study: Study, results: list[Result], path: Path) -> bool:
    """Write a PNG of 1200 pixels' width; False, and nothing, when there is no figure to show."""
    originals = [r for r in results if r.original and not r.failed]
    variants = [r for r in results if not r.original]
    if all(r.failed for r in variants):
        return False
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    height = 4.6 if study.sweep else 2.2 + 0.62 * len(variants)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08, wspace=0.03)
    figure = Figure(figsize=(12, height), layout=layout)
    left, right = figure.subplots(1, 2, sharex=bool(study.sweep), sharey=not study.sweep)
    draw = _Sweep(study.sweep, variants) if study.sweep else _Rows(variants)
    draw.distances(left, originals)
    draw.differences(right)
    for axis, name in ((left, "mean distance to retrained"), (right, "unlearned minus retrained")):
        draw.dress(axis, f"{name} (points)")
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=10)
        axis.grid(alpha=0.25)
        axis.set_axisbelow(True)
    figure.savefig(path, dpi=100, format="png")
    return True


class _Sweep:
    """Over the values of a key: places from left to right."""

    def __init__(self, sweep: Sweep, variants: list[Result]) -> None:
        self.sweep, self.variants = sweep, variants

    def distances(self, axis: Any, originals: list[Result]) -> None:
        gaps, done = [r.gap for r in self.variants], [r.gap for r in originals]
        if originals and originals[0].x is not None:
            moved = _moved(axis, -4, 0)
            axis.errorbar(*self._points(originals, done), **NOTHING, **BARS, transform=moved)
        for gap in done if originals and originals[0].x is None else []:
            axis.axhline(gap.mean, **NOTHING)
            axis.axhspan(gap.mean - gap.half, gap.mean + gap.half, **BAND)
        axis.errorbar(*self._points(self.variants, gaps), color=OWN, marker="o", label="unlearned", **BARS)
        axis.set_ylim(0, _limits([*gaps, *done])[1])

    def differences(self, axis: Any) -> None:
        axis.axhline(0, color="0.3", linewidth=1)
        for name, (colour, marker), shift in _measures(self.variants):
            points = self._points(self.variants, [r.apart[name] for r in self.variants])
            moved = _moved(axis, shift, 0)
            style = {"color": colour, "marker": marker, "label": MEASURES[name], "linewidth": 1}
            axis.errorbar(*points, **style, **BARS, transform=moved)
        axis.set_ylim(_limits([r.apart[name] for r in self.variants for name in SIGNED]))

    def dress(self, axis: Any, title: str) -> None:
        if self.sweep.log:
            axis.set_xscale("log")
        axis.set_xticks([r.x for r in self.variants], [_tick(r, shown(r.x or 0)) for r in self.variants])
        axis.set_xticks([], minor=True)
        axis.set_xlabel(self.sweep.axis)
        axis.set_ylabel(title)
        for default in (r for r in self.variants if r.default):
            axis.axvline(default.x, color="0.9", linewidth=16, zorder=0)

    @staticmethod
    def _points(results: Sequence[Result], values: Sequence[Interval]) -> tuple[Any, Any, Any]:
        means, halves = _arrays(values)
        return np.array([r.x for r in results]), means, halves


class _Rows:
    """Named variants: places from top to bottom."""

    def __init__(self, variants: list[Result]) -> None:
        self.variants = variants
        self.places = -np.arange(len(variants))

    def distances(self, axis: Any, originals: list[Result]) -> None:
        gaps, done = [r.gap for r in self.variants], [r.gap for r in originals]
        for gap in done:
            axis.axvline(gap.mean, **NOTHING)
            axis.axvspan(gap.mean - gap.half, gap.mean + gap.half, **BAND)
        self._across(axis, gaps, color=OWN, marker="o", label="unlearned")
        axis.set_xlim(0, _limits([*gaps, *done])[1])

    def differences(self, axis: Any) -> None:
        axis.axvline(0, color="0.3", linewidth=1)
        for name, (colour, marker), shift in _measures(self.variants):
            apart = [r.apart[name] for r in self.variants]
            style = {"color": colour, "marker": marker, "label": MEASURES[name]}
            self._across(axis, apart, **style, transform=_moved(axis, 0, -2 * shift))
        axis.set_xlim(_limits([r.apart[name] for r in self.variants for name in SIGNED]))

    def dress(self, axis: Any, title: str) -> None:
        axis.set_yticks(self.places, [_tick(r, fill(r.label, 24)) for r in self.variants])
        axis.set_ylim(self.places[-1] - 0.6, 0.6)
        axis.set_xlabel(title)
        for place, result in zip(self.places, self.variants, strict=True):
            if result.default:
                axis.axhspan(place - 0.45, place + 0.45, color="0.94", zorder=0)

    def _across(self, axis: Any, values: Sequence[Interval], **style: Any) -> None:
        means, halves = _arrays(values)
        axis.errorbar(means, self.places, xerr=halves, linestyle="none", **style, **BARS)


def _measures(results: Sequence[Result]) -> list[tuple[str, tuple[str, str], float]]:
    """Measures that any result has, with their style and a shift in points that keeps them apart."""
    used = [name for name in SIGNED if any(not isnan(r.apart[name].mean) for r in results)]
    return [(name, SIGNED[name], 4 * (i - (len(used) - 1) / 2)) for i, name in enumerate(used)]


def _limits(values: Sequence[Interval]) -> tuple[float, float]:
    """An axis that holds 0 and all intervals: what is drawn moved is not seen by autoscaling."""
    known = [(v.mean, 0.0 if isnan(v.half) else v.half) for v in values if not isnan(v.mean)]
    low = min([0.0, *(mean - half for mean, half in known)])
    high = max([0.0, *(mean + half for mean, half in known)])
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _moved(axis: Any, right: float, up: float) -> Any:
    from matplotlib.transforms import ScaledTranslation

    return axis.transData + ScaledTranslation(right / 72, up / 72, axis.figure.dpi_scale_trans)


def _arrays(values: Sequence[Interval]) -> tuple[Any, Any]:
    return np.array([v.mean for v in values]), np.array([v.half for v in values])


def _tick(result: Result, text: str) -> str:
    marks = ["(default)"] if result.default else []
    marks += ["failed"] if result.failed else []
    return "\n".join([text, *marks])
