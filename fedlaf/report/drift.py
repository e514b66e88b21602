"""Drift: how models compare over several requests, as a plot and as a table."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import Any

from fedlaf.report.plot import COLOURS, save
from fedlaf.report.report import Report
from fedlaf.report.results import MEASURES, RequestResult
from fedlaf.report.tables import Rows, markdown

LABELS = {
    "original": "just before the request (doing nothing about it)",
    "unlearned": "unlearned",
    "retrained": "retrained without all rows forgotten so far",
}
BRIEF = {"original": "before", "unlearned": "unlearned", "retrained": "retrained"}
PANELS = {"accuracy_test": ("original", "unlearned", "retrained"), "gap": ("original", "unlearned")}
MARKERS = {"original": "s", "unlearned": "o", "retrained": "^"}


def compared(report: Report) -> dict[int, RequestResult]:
    """Requests with a retrained model, by their number; none when there is only one."""
    asked = enumerate((served for served in report.results if served.clients), 1)
    found = {number: served for number, served in asked if "retrained" in served.models}
    return found if len(found) > 1 else {}


def points(report: Report, measure: str, model: str) -> list[tuple[int, float]]:
    """A measure of a model over requests: (number, value), without those that have no value."""
    values = [(number, served.measure(measure, model)) for number, served in compared(report).items()]
    return [(number, value) for number, value in values if value is not None and not isnan(value)]


def rows(report: Report) -> Rows:
    """A header, then a row a request."""
    titles = {"accuracy_test": "test accuracy", "gap": "mean distance"}
    values = [f"{titles[name]}, {BRIEF[model]}" for name, models in PANELS.items() for model in models]
    table = [["request", "forgets", *values, "share of retraining's passes"]]
    for number, served in compared(report).items():
        figures = [served.measure(name, model) for name, models in PANELS.items() for model in models]
        share = served.share("passes")
        shown = ["" if v is None or isnan(v) else f"{v:.1f}" for v in figures]
        table.append([str(number), who(served), *shown, "" if share is None else f"{share:.1f} %"])
    return table


def section(report: Report) -> list[str]:
    """The report's part on drift, in Markdown; empty below two requests with a retrained model."""
    if not compared(report):
        return []
    read = (
        "Before is the model just before the request: the one that the last request left, with what was "
        "trained since. Retrained is trained anew without all rows forgotten so far. Distances are in points."
    )
    return ["## Drift over requests", markdown(rows(report)), read, "![drift over requests](drift.png)"]


def plot_drift(report: Report, path: Path) -> bool:
    """Write a PNG of test accuracy and mean distance over requests; nothing, and False, below two."""
    found = compared(report)
    if not found:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6 * len(PANELS), 4.2), layout="constrained")
    axes: Any = figure.subplots(1, len(PANELS))
    for axis, (measure, models) in zip(axes, PANELS.items(), strict=True):
        for model in models:
            _line(axis, model, points(report, measure, model))
        axis.set_title(MEASURES[measure], fontsize=10)
        axis.set_xticks(list(found), [f"{n}\n{who(served)}" for n, served in found.items()], fontsize=9)
        axis.set_xlabel("request", fontsize=9)
        axis.grid(alpha=0.3)
    axes[-1].set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)
    return True


def _line(axis: Any, model: str, values: list[tuple[int, float]]) -> None:
    x, y = [number for number, _ in values], [value for _, value in values]
    axis.plot(x, y, color=COLOURS[model], marker=MARKERS[model], markersize=5, label=LABELS[model])


def who(served: RequestResult) -> str:
    """The clients that forget, briefly."""
    clients = served.clients
    return f"client {clients[0]}" if len(clients) == 1 else f"{len(clients)} clients"
