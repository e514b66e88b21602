"""The plot of a run: what happens to the model from its first round to after the request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedlaf.report.report import MEASURES, Point, Report

PANELS = ("accuracy_test", "accuracy_forgotten", "backdoor_success")
COLOURS = {"original": "0.45", "unlearned": "#c1272d", "retrained": "#0072b2"}


def plot(report: Report, path: Path) -> None:
    """Write a PNG with one panel a measure: the last request's curves over client passes.

    Passes count from the request: training lies left of it, forgetting and retraining right.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    panels = [m for m in PANELS if any(m in point.measures for point in report.curves)]
    figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
    axes: Any = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, measure in zip(axes, panels, strict=True):
        for label, points in curves_of(report).items():
            x = [point.passes / 1000 for point in points]
            y = [point.measures[measure] for point in points]
            marker = "o" if label == "unlearned" else None
            axis.plot(x, y, color=COLOURS[label], label=label, marker=marker, markersize=3)
        goal = report.served[-1].measure(measure, "retrained")
        if goal is not None:
            axis.axhline(goal, color=COLOURS["retrained"], linestyle=":", linewidth=1)
        axis.axvline(0, color="0.8", linewidth=1, zorder=0)
        axis.set_title(MEASURES[measure], fontsize=10)
        axis.set_xlabel("client passes since the request (thousands)", fontsize=9)
        axis.set_ylim(0, 100)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=9, loc="best")
    figure.savefig(path, dpi=130)


def curves_of(report: Report) -> dict[str, list[Point]]:
    """The curves of the last request by model: training up to it, forgetting and retraining from it."""
    last = max((i for i, served in enumerate(report.served) if served.clients), default=0) + 1
    training = [p for p in report.curves if p.stage == "train"]
    rounds = report.served[last - 1].round
    before = [p for p in training if p.round <= rounds]
    start = max((p.passes for p in before), default=0.0)
    shifted = [Point(p.stage, p.round, p.passes - start, p.measures) for p in before]
    forgetting = [p for p in report.curves if p.stage == f"request-{last}"]
    retraining = [p for p in report.curves if p.stage == f"retrain-{last}"]
    origin = shifted[-1:]
    found = {"original": shifted, "unlearned": [*origin, *forgetting], "retrained": retraining}
    return {label: points for label, points in found.items() if points}
