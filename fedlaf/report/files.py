"""What a run leaves in its folder when it has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from fedlaf.core.whole_file import write_text
from fedlaf.report.alternatives import alternative_rows
from fedlaf.report.drift import plot_drift, section
from fedlaf.report.metrics import json_lines
from fedlaf.report.page import has_assets, page_data, run_page
from fedlaf.report.plot import plot
from fedlaf.report.report import Report, as_json
from fedlaf.report.stream_tables import section as stream_section
from fedlaf.report.tables import (
    class_rows,
    cost_rows,
    failures,
    layer_rows,
    markdown,
    measure_rows,
    onward_rows,
    remarks,
    title,
)
from fedlaf.report.timeline import plot_timeline

FILES = (
    "report.html", "report.json", "report.md", "curves.png", "drift.png", "timeline.png", "metrics.jsonl",
)  # fmt: skip
"""What there is to read of a run, in its folder; `page.json` has the values of its page."""


def write(report: Report, folder: Path) -> None:
    """Write the files; a file is complete or not there.

    There is no plot without curves, and none of drift below two requests with a retrained model.
    """
    replace(folder / "report.json", json.dumps(finite(as_json(report)), indent=1, allow_nan=False) + "\n")
    drawn = not report.stream and plot(report, folder / "curves.png")
    if not report.alternatives:
        plot_drift(report, folder / "drift.png")
    timeline = plot_timeline(report.stream, folder / "timeline.png")
    replace(folder / "report.md", document(report, picture=drawn, timeline=timeline))
    replace(folder / "metrics.jsonl", json_lines(report))
    data = page_data(report)
    replace(folder / "page.json", json.dumps(data, allow_nan=False) + "\n")
    if has_assets():
        replace(folder / "report.html", run_page(data))


def document(report: Report, *, picture: bool = True, timeline: bool = False) -> str:
    """The report as Markdown, with the plots where there are any."""
    parts = [f"# fedlaf: {report.method}, seed {report.seed}"]
    parts += stream_section(report.stream, picture=timeline) if report.stream else []
    if report.alternatives:
        parts += ["## Each client in turn", markdown(alternative_rows(report))]
    for served in report.results:
        parts += [f"## {title(served)}", markdown(measure_rows(served))]
        if served.costs:
            parts.append(markdown(cost_rows(served)))
        parts += remarks(served)
        parts += [
            markdown(rows) for rows in (onward_rows(served), class_rows(served), layer_rows(served)) if rows
        ]
        if served.answers.asked:
            counts = f"{served.answers.asked}, of which {served.answers.failed} failed"
            parts.append(f"Messages to clients while forgetting: {counts}.")
    parts += [] if report.alternatives else section(report)
    parts += [f"Failed in {line}." for line in failures(report)]
    if picture:
        parts.append("![curves](curves.png)")
    spent = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in report.seconds.items())
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    parts += [f"Wall time: {spent}.", f"Made with {versions}."]
    return "\n\n".join(parts) + "\n"


def finite(value: Any) -> Any:
    """The value with null for every number that JSON does not know."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def replace(path: Path, text: str) -> None:
    """Write a text file that is whole or not there."""
    write_text(path, text)
