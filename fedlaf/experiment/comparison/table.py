"""A comparison's table: a line a method in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isnan

from fedlaf.experiment.comparison.rows import APART, JS, SHARES, Row, against
from fedlaf.experiment.comparison.stream_table import CARRY_ON
from fedlaf.report.intervals import Interval
from fedlaf.report.tables import Rows, markdown


def table(found: Sequence[Row], default: str | None = None) -> str:
    """Markdown, closest to the retrained model first; the best of each column is bold.

    With a method that is the default, rows keep their order, and a column has their distance minus its own.
    The row of doing nothing is never bold, and columns that no row has are left out.
    """
    own = next((row for row in found if row.method == default and not row.failed), None)
    used = [name for name in APART if any(not isnan(row.apart[name].mean) for row in found)]
    stored = any(row.stored_mb > 0 for row in found)
    header = ["", "mean distance", *(["against default"] if own else [])]
    header += [*(APART[n] for n in used), *JS.values(), *SHARES.values(), *(["stored MB"] if stored else [])]
    lines: Rows = [[*header, "notes"]]
    best = _Best([row for row in found if not (row.original or row.failed)])
    for row in found if own else sorted(found, key=lambda row: (row.failed, _finite(row.gap.mean))):
        cells = [best.of(row, lambda r: r.gap, interval_text(row.gap))]
        cells += [interval_text(against(row, own), "+") if row is not own else ""] if own else []
        cells += [best.of(row, partial(_apart, n), interval_text(row.apart[n], "+")) for n in used]
        cells += [best.of(row, partial(_js, n), interval_text(row.js[n], digits=4)) for n in JS]
        cells += [plain_text(row.shares[name], 1) for name in SHARES]
        cells += [plain_text(row.stored_mb, 0)] if stored else []
        name = (CARRY_ON if row.stream else "original (doing nothing)") if row.original else row.method
        lines.append([f"{name} (default)" if row is own else name, *cells, _notes(row)])
    return markdown(lines) + _spread(found)


def _spread(found: Sequence[Row]) -> str:
    known = [row.spread for row in found if row.original and not isnan(row.spread.mean)]
    line = "\n\nModels retrained from other seeds have a mean distance of {} to each other."
    return line.format(interval_text(known[0])) if known else ""


class _Best:
    """Marks the smallest absolute mean of a column."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def of(self, row: Row, value: Callable[[Row], Interval], text: str) -> str:
        """The text, bold for the best row."""
        known = [abs(value(r).mean) for r in self.rows if not isnan(value(r).mean)]
        is_best = row in self.rows and known and abs(value(row).mean) == min(known)
        return f"**{text}**" if is_best else text


def _apart(name: str, row: Row) -> Interval:
    return row.apart[name]


def _js(name: str, row: Row) -> Interval:
    return row.js[name]


def _notes(row: Row) -> str:
    if row.failed and row.errors:
        return f"failed: {next(iter(row.errors.values()))}".replace("|", r"\|")
    marks = ["scatters"] if row.gap.scatters else []
    marks += [f"failed on seed {seed}: {line}" for seed, line in row.errors.items()]
    return "; ".join(marks).replace("|", r"\|")


def interval_text(value: Interval, sign: str = "", digits: int = 2) -> str:
    """A mean and its half-width; empty for none."""
    if isnan(value.mean):
        return ""
    half = "" if isnan(value.half) else f" ± {value.half:.{digits}f}"
    return f"{value.mean:{sign}.{digits}f}{half}"


def plain_text(value: float, digits: int) -> str:
    """A number; empty for NaN."""
    return "" if isnan(value) else f"{value:.{digits}f}"


def _finite(value: float) -> float:
    return 0.0 if isnan(value) else value
