"""The plot of a run: what happens to the model from its first round to after the request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedlaf.core.whole_file import whole
from fedlaf.report.report import Report
from fedlaf.report.results import MEASURES, Point

PANELS = ("accuracy_test", "accuracy_forget", "backdoor_success")
COLOURS = {"original": "0.45", "unlearned": "#c1272d", "retrained": "#0072b2"}


def plot(report: Report, path: Path) -> bool:
    """Write a PNG with one panel a measure: the last request's curves over client passes.

    Passes count from the request: training lies left of it, forgetting and retraining right.
    Without curves nothing is written, and the answer is False.
    """
    from matplotlib.figure import Figure

    curves = curves_of(report)
    panels = [m for m in PANELS if any(m in p.measures for points in curves.values() for p in points)]
    if not panels:
        return False
    figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
    axes: Any = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, measure in zip(axes, panels, strict=True):
        _panel(axis, report, measure, curves)
    axes[0].legend(fontsize=9, loc="best")
    save(figure, path)
    return True


def save(figure: Any, path: Path) -> None:
    """Write a matplotlib figure as a PNG that is whole or not there."""
    with whole(path) as draft:
        figure.savefig(draft, dpi=130, format="png")


def _panel(axis: Any, report: Report, measure: str, curves: dict[str, list[Point]]) -> None:
    for label, points in curves.items():
        x = [point.passes / 1000 for point in points]
        y = [point.measures[measure] for point in points]
        marker = "o" if label == "unlearned" else None
        axis.plot(x, y, color=COLOURS[label], label=label, marker=marker, markersize=3)
    target = report.results[last_request(report)].measure(measure, "retrained")
    if target is not None:
        axis.axhline(target, color=COLOURS["retrained"], linestyle=":", linewidth=1)
    axis.axvline(0, color="0.8", linewidth=1, zorder=0)
    axis.set_title(MEASURES[measure], fontsize=10)
    axis.set_xlabel("client passes since the request (thousands)", fontsize=9)
    axis.set_ylim(0, 100)
    axis.grid(alpha=0.3)


def last_request(report: Report) -> int:
    """Place of the last request in the report; -1 when there was none."""
    return max((place for place, served in enumerate(report.results) if served.clients), default=-1)


def curves_of(report: Report) -> dict[str, list[Point]]:
    """The curves of the last request by model: training up to it, forgetting and retraining from it.

    Training that went on after an earlier request is a stage of its own, whose passes start anew.
    """
    last = last_request(report)
    if last < 0:
        return {}
    before = 0.0
    training: list[Point] = []
    rounds = report.results[last].round
    for stage in training_stages(report, rounds):
        points = [p for p in report.curves if p.stage == stage and p.round <= rounds]
        training += [Point(p.stage, p.round, before + p.passes, p.measures) for p in points]
        before = training[-1].passes if training else 0.0
    shifted = [Point(p.stage, p.round, p.passes - before, p.measures) for p in training]
    forgetting = [p for p in report.curves if p.stage == f"request-{last + 1}"]
    retraining = [p for p in report.curves if p.stage == f"retrain-{last + 1}"]
    found = {"original": shifted, "unlearned": [*shifted[-1:], *forgetting], "retrained": retraining}
    return {label: points for label, points in found.items() if points}


def training_stages(report: Report, rounds: int) -> list[str]:
    """Names of the stages in which the model was trained up to round `rounds`, in order."""
    starts = sorted({served.round for served in report.results if served.round < rounds})
    return ["train", *(f"train-from-{start}" for start in starts)]
