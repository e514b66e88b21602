"""The plot of a sweep: mean distance and signed differences to the retrained model over the swept value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from fedlaf.experiment.comparison.rows import APART, Row
from fedlaf.experiment.comparison.style import COLOURS, MARKERS, style
from fedlaf.experiment.comparison.sweep import Sweep, shown
from fedlaf.report.intervals import Interval
from fedlaf.report.plot import save

OWN: dict[str, Any] = {"color": "#222222", "marker": "o"}
BROWN = "#8a6d00"
NOTHING: dict[str, Any] = {
    "color": BROWN,
    "linestyle": ":",
    "linewidth": 2,
    "label": "doing nothing",
}
BARS: dict[str, Any] = {"capsize": 3, "elinewidth": 1.2, "markersize": 6}


TITLES = ("mean distance to retrained", "unlearned minus retrained")


def plot_sweep(
    found: Sequence[Row], sweep: Sweep, places: Mapping[str, float], default: str | None, path: Path
) -> bool:
    """Write a PNG, a line of panels a setting; False, and nothing, when there is no figure to show.

    `places` has the swept values by method, or by setting: then all settings share a line of panels.
    """
    if all(row.failed for row in found if not row.original):
        return False
    by_setting = not any(row.method in places for row in found)
    groups = [""] if by_setting else list(dict.fromkeys(row.setting for row in found))
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(12, 4.6 * len(groups)), layout="constrained")
    for pair, group in zip(figure.subplots(len(groups), 2, squeeze=False), groups, strict=True):
        rows = [row for row in found if by_setting or row.setting == group]
        panel = _Panel(rows, sweep, places, by_setting=by_setting)
        panel.distances(pair[0])
        panel.differences(pair[1])
        for axis, title in zip(pair, TITLES, strict=True):
            panel.dress(axis, f"{group}, {title}" if group else title, default)
    save(figure, path)
    return True


class _Panel:
    def __init__(
        self, found: Sequence[Row], sweep: Sweep, places: Mapping[str, float], *, by_setting: bool
    ) -> None:  # fmt: skip
        self.sweep, self.places, self.by_setting = sweep, places, by_setting
        self.originals = [row for row in found if row.original and not row.failed]
        self.methods: dict[str, list[Row]] = {}
        for row in (row for row in found if not row.original):
            self.methods.setdefault(row.method if by_setting else "unlearned", []).append(row)

    def distances(self, axis: Any) -> None:
        if self.by_setting:
            self._points(axis, self.originals, [row.gap for row in self.originals], **NOTHING)
        for row in [] if self.by_setting else self.originals:
            axis.axhline(row.gap.mean, **NOTHING)
            low, high = row.gap.mean - row.gap.half, row.gap.mean + row.gap.half
            axis.axhspan(low, high, color=BROWN, alpha=0.12, linewidth=0)
        for place, (label, rows) in enumerate(self.methods.items()):
            chosen: dict[str, Any] = OWN if len(self.methods) == 1 else {**style(place)}
            self._points(axis, rows, [row.gap for row in rows], label=label, **chosen)
        axis.set_ylim(bottom=0)

    def differences(self, axis: Any) -> None:
        axis.axhline(0, color="0.3", linewidth=1)
        for label, rows in self.methods.items():
            used = [name for name in APART if any(not isnan(row.apart[name].mean) for row in rows)]
            for place, name in enumerate(used):
                title = APART[name] if len(self.methods) == 1 else f"{label}, {APART[name]}"
                chosen: dict[str, Any] = {"color": COLOURS[place], "marker": MARKERS[place]}
                # Side by side: intervals of the same value would hide each other.
                shift = 4 * (place - (len(used) - 1) / 2)
                values = [row.apart[name] for row in rows]
                self._points(axis, rows, values, shift=shift, label=title, linewidth=1, **chosen)

    def dress(self, axis: Any, title: str, default: str | None) -> None:
        if self.sweep.log:
            axis.set_xscale("log")
        own = self.places.get(default or "")
        ticks = sorted(set(self.places.values()))
        axis.set_xticks(ticks, [shown(x) + ("\n(default)" if x == own else "") for x in ticks])
        axis.set_xticks([], minor=True)
        axis.set_xlabel(self.sweep.axis)
        axis.set_ylabel(f"{title} (points)")
        if own is not None:
            axis.axvline(own, color="0.9", linewidth=16, zorder=0)
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=10)
        axis.grid(alpha=0.25)
        axis.set_axisbelow(True)

    def _points(
        self, axis: Any, rows: Sequence[Row], values: Sequence[Interval], *, shift: float = 0.0, **more: Any
    ) -> None:
        from matplotlib.transforms import ScaledTranslation

        x = [self.places[row.setting if self.by_setting else row.method] for row in rows]
        means = np.array([value.mean for value in values])
        halves = np.array([value.half for value in values])
        axis.errorbar(
            x, means, np.nan_to_num(halves), alpha=0
        )  # what is drawn moved is not seen by autoscaling
        moved = axis.transData + ScaledTranslation(shift / 72, 0, axis.figure.dpi_scale_trans)
        axis.errorbar(x, means, halves, transform=moved, **more, **BARS)
