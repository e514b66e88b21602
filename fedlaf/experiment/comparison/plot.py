"""The Pareto plot: distance to the retrained model over client passes, a marker with its name a method."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedlaf.experiment.comparison.rows import Row
from fedlaf.experiment.comparison.style import style
from fedlaf.report.plot import save

COLUMNS = 3
"""Panels beside each other, at most."""
FREE = 0.5
"""Percent of the passes below which the axis is linear: some methods take none."""
TICKS = (0, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""Where a name may stand beside its marker, best first."""
BEST = "closest at that cost or less"
REACHES = (7, 14, 24, 38, 56, 80)
"""Points of distance between marker and name, tried in turn."""


class Box(NamedTuple):
    """A rectangle on the canvas, in pixels."""

    left: float
    low: float
    right: float
    high: float

    def meets(self, other: Box) -> bool:
        """Whether the two share a point."""
        apart = self.right < other.left or other.right < self.left
        return not (apart or self.high < other.low or other.high < self.low)

    def within(self, frame: Sequence[float]) -> bool:
        """Whether it lies inside (left, low, right, high)."""
        left, low, right, high = frame
        return left < self.left and low < self.low and self.right < right and self.high < high


def plot(found: Sequence[Row], title: str, path: Path) -> bool:
    """Write a PNG with a panel a setting; False, and nothing, when there is no figure to show."""
    settings = list(dict.fromkeys(row.setting for row in found))
    methods = list(dict.fromkeys(row.method for row in found if not (row.original or row.failed)))
    if not methods:
        return False
    from matplotlib.figure import Figure

    columns = min(len(settings), COLUMNS)
    rows = -(-len(settings) // columns)
    figure: Any = Figure(figsize=(8.6 * columns, 6.4 * rows), dpi=130, layout="constrained")
    panels: Any = figure.subplots(rows, columns, squeeze=False).flatten()
    axes = panels[: len(settings)]
    for unused in panels[len(settings) :]:
        unused.remove()
    for axis, setting in zip(axes, settings, strict=True):
        _panel(axis, [row for row in found if row.setting == setting], methods)
        axis.set_title(f"{title}, {setting}" if setting else title, fontsize=11)
    lines = {line.get_label(): line for axis in axes for line in axis.get_legend_handles_labels()[0]}
    figure.legend(
        handles=list(lines.values()), loc="outside lower center", ncols=3, fontsize=9, frameon=False
    )
    figure.draw_without_rendering()  # places are final: names can be set beside them
    for axis, setting in zip(axes, settings, strict=True):
        shown = [row for row in found if row.setting == setting and not (row.original or row.failed)]
        points = [(row.method, (row.shares["passes"], row.gap.mean)) for row in shown]
        _label(axis, [(name, point, style(methods.index(name))["color"]) for name, point in points])
    save(figure, path)
    return True


def _panel(axis: Any, found: Sequence[Row], methods: Sequence[str]) -> None:
    shown = [row for row in found if not (row.original or row.failed)]
    for row in found:
        if row.original and not row.failed:
            axis.axhline(row.gap.mean, color="0.4", linestyle=":", label="doing nothing")
            if not isnan(row.spread.mean):
                axis.axhline(row.spread.mean, color="0.4", linestyle="--", label="between retrainings")
    for row in shown:
        low = min(row.gap.half, row.gap.mean * 0.75) if not isnan(row.gap.half) else 0.0
        high = 0.0 if isnan(row.gap.half) else row.gap.half
        axis.errorbar(
            [row.shares["passes"]], [row.gap.mean], yerr=[[low], [high]],
            linestyle="none", markersize=7, elinewidth=0.8, capsize=2, **style(methods.index(row.method)),
        )  # fmt: skip
    most = 2 * max([FREE, *(row.shares["passes"] for row in shown)])
    front = pareto([(row.shares["passes"], row.gap.mean) for row in shown])
    front += [(most, distance) for _, distance in front[-1:]]
    axis.step(*np.reshape(front, (-1, 2)).T, where="post", color="0.6", linewidth=1, zorder=0, label=BEST)
    _dress(axis, most)


def _dress(axis: Any, most: float) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_xscale("symlog", linthresh=FREE)
    axis.set_yscale("log")
    axis.set_xlim(-0.05, most)
    ticks = [tick for tick in TICKS if tick <= axis.get_xlim()[1]]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("client passes (% of retraining's)")
    axis.set_ylabel("mean distance to retrained (points)")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.25, which="both")


def _label(axis: Any, points: Sequence[tuple[str, tuple[float, float], str]]) -> None:
    """Write the name of each (name, point, colour) beside its point, with a line to it."""
    from matplotlib.patheffects import withStroke

    halo, scale = [withStroke(linewidth=2, foreground="white")], axis.figure.dpi / 72
    centres = [axis.transData.transform(point) for _, point, _ in points]
    taken = [Box(x - 6 * scale, y - 6 * scale, x + 6 * scale, y + 6 * scale) for x, y in centres]
    for (name, point, colour), centre in zip(points, centres, strict=True):
        words = axis.text(0, 0, name, fontsize=8)
        half = words.get_window_extent().size / 2
        words.remove()
        x, y, box = spot(centre, half, taken, axis.bbox.extents, scale)
        taken.append(box)
        axis.annotate(
            name, point, (x / scale, y / scale), textcoords="offset points", fontsize=8, color=colour,
            ha="center", va="center", path_effects=halo,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5},
        )  # fmt: skip


def spot(
    centre: Sequence[float], half: Sequence[float], taken: Sequence[Box], frame: Sequence[float], scale: float
) -> tuple[float, float, Box]:
    """Offset in pixels from `centre`, and the box, of words of that half size where nothing else stands.

    The first place of SIDES and REACHES that is within `frame` and free; the first of all if there is none.
    """
    x, y = centre
    found = []
    for reach in REACHES:
        for right, up in SIDES:
            dx, dy = right * (reach * scale + half[0]), up * (reach * scale + half[1])
            box = Box(x + dx - half[0], y + dy - half[1], x + dx + half[0], y + dy + half[1])
            found.append((dx, dy, box))
            if box.within(frame) and not any(box.meets(other) for other in taken):
                return dx, dy, box
    return found[0]


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, distance) pairs those that no other beats in both, from the cheapest on."""
    front: list[tuple[float, float]] = []
    for cost, distance in sorted(points):
        if not front or distance < front[-1][1]:
            front.append((cost, distance))
    return front
