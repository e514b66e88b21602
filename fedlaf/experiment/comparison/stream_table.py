"""The table of a stream in a comparison: a line a method in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from fedlaf.experiment.comparison.rows import Row
from fedlaf.experiment.comparison.stream_figures import FIGURES
from fedlaf.report.intervals import Interval
from fedlaf.report.tables import Rows, markdown

READ = (
    "Requests of a stream, the same for every method. Served are those after which a model without their "
    "rows was published. Exposure counts rounds in which a published model still held a leaver's rows, up to "
    "the end where they were not forgotten. The worst client is that of the end whose accuracy is furthest "
    "below the retrained model's."
)

CARRY_ON = "carry_on (training goes on, nothing is forgotten)"


def stream_table(found: Sequence[Row]) -> list[str]:
    """What to read, and a Markdown table with a line a method; nothing without a stream."""
    rows = [row for row in found if row.stream]
    if not rows:
        return []
    lines: Rows = [["", *(title for title, _ in FIGURES.values())]]
    for row in rows:
        cells = [_shown(row.stream[name], digits) for name, (_, digits) in FIGURES.items()]
        lines.append([CARRY_ON if row.original else row.method, *cells])
    return [READ, markdown(lines)]


def _shown(value: Interval, digits: int) -> str:
    if isnan(value.mean):
        return ""
    half = "" if isnan(value.half) else f" ± {value.half:.{digits}f}"
    return f"{value.mean:.{digits}f}{half}"
