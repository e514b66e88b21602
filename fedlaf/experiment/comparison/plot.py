"""The Pareto plot: distance to the retrained model over client passes, a marker a method."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from fedlaf.experiment.comparison.rows import Row
from fedlaf.report.plot import save

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's; with the markers each method has a sign of its own."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FREE = 0.5
"""Percent of the passes below which the axis is linear: some methods take none."""


def plot(found: Sequence[Row], title: str, path: Path) -> bool:
    """Write a PNG with a panel a setting; False, and nothing, when there is no figure to show."""
    settings = list(dict.fromkeys(row.setting for row in found))
    methods = list(dict.fromkeys(row.method for row in found if not (row.original or row.failed)))
    if not methods:
        return False
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(6.2 * len(settings) + 2.2, 5.2), layout="constrained")
    axes: Any = figure.subplots(1, len(settings), squeeze=False)[0]
    for axis, setting in zip(axes, settings, strict=True):
        _panel(axis, [row for row in found if row.setting == setting], methods)
        axis.set_title(f"{title}, {setting}" if setting else title, fontsize=11)
    handles: dict[str, Any] = {}
    for axis in axes:
        handles |= {label: line for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        list(handles.values()), list(handles), loc="outside right center", fontsize=9, frameon=False
    )
    save(figure, path)
    return True


def _panel(axis: Any, found: Sequence[Row], methods: Sequence[str]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    shown = [row for row in found if not (row.original or row.failed)]
    for row in found:
        if row.original and not row.failed:
            axis.axhline(row.gap.mean, color="0.4", linestyle=":", label="doing nothing")
            if not isnan(row.spread.mean):
                axis.axhline(row.spread.mean, color="0.4", linestyle="--", label="between retrainings")
    for row in shown:
        place = methods.index(row.method)
        style = {
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[(place + place // len(COLOURS)) % len(MARKERS)],
        }
        low = min(row.gap.half, row.gap.mean * 0.75) if not isnan(row.gap.half) else 0.0
        high = 0.0 if isnan(row.gap.half) else row.gap.half
        axis.errorbar(
            [row.shares["passes"]], [row.gap.mean], yerr=[[low], [high]], label=row.method,
            linestyle="none", markersize=8, elinewidth=1, capsize=2, **style,
        )  # fmt: skip
    front = pareto([(row.shares["passes"], row.gap.mean) for row in shown])
    axis.step(*np.array(front).T, where="post", color="0.6", linewidth=1, zorder=0, label="best so far")
    axis.set_xscale("symlog", linthresh=FREE)
    axis.set_yscale("log")
    axis.set_xlim(-0.05, 1.4 * max(FREE, *(row.shares["passes"] for row in shown)))
    ticks = [tick for tick in (0, 0.5, 1, 2, 5, 10, 20, 50, 100) if tick <= axis.get_xlim()[1]]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("client passes (% of retraining's)")
    axis.set_ylabel("mean distance to retrained (points)")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.25, which="both")


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, distance) pairs those that no other beats in both, from the cheapest on."""
    front: list[tuple[float, float]] = []
    for cost, distance in sorted(points):
        if not front or distance < front[-1][1]:
            front.append((cost, distance))
    return front
