"""A comparison's end on one screen of 80 x 24: who is closest, a table of distances, where the rest is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from textwrap import shorten

from fedlaf.experiment.comparison.plan import Comparison
from fedlaf.experiment.comparison.rows import Row
from fedlaf.experiment.comparison.table import interval_text, plain_text
from fedlaf.report.intervals import Interval

WIDTH = 80
NAME, CELL = 29, 16
"""Characters of the first column, and of each other."""
MOST, ACROSS = 14, 3
"""Lines of the table, and its columns beside the names."""
NOTHING = "doing nothing"


def brief(comparison: Comparison, found: Sequence[Row]) -> str:
    """A line a setting with the closest method, a table, what failed, and where the rest is."""
    settings = list(comparison.settings)
    seeds = f"{len(comparison.seeds)} seeds" if len(comparison.seeds) > 1 else f"seed {comparison.seeds[0]}"
    lines = [f"{comparison.title}: distances to the retrained model, {seeds}"]
    lines += [_closest(name, [row for row in found if row.setting == name]) for name in settings[:ACROSS]]
    lines += [f"... {len(settings) - ACROSS} more settings"] if settings[ACROSS:] else []
    header, table = _one(found) if len(settings) == 1 else _many(found, settings)
    hidden = len(table) - MOST
    lines += ["", _line("", header), "-" * WIDTH, *(_line(name, cells) for name, cells in table[:MOST])]
    lines += [f"... {hidden} more lines"] if hidden > 0 else []
    failed = [f"{row.method}, seed {seed}: {error}" for row in found for seed, error in row.errors.items()]
    lines += [f"{len(failed)} failed, the first: {failed[0]}"] if failed else []
    page = comparison.folder / comparison.name / "comparison.html"
    lines = [line if len(line) <= WIDTH else shorten(line, WIDTH) for line in lines]
    return "\n".join([*lines, f"All columns: {page} (.md, .png, .json there); -v prints them."])


def _closest(setting: str, found: Sequence[Row]) -> str:
    before = f"{setting}: " if setting else ""
    good = [row for row in found if not (row.failed or row.original)]
    if not good:
        return f"{before}no method has a result"
    best = min(good, key=lambda row: row.gap.mean)
    apart = [row.spread.mean for row in found if row.original and not isnan(row.spread.mean)]
    beside = f" (retrainings {apart[0]:.2f})" if apart else ""
    return f"{before}closest, {interval_text(best.gap)} points{beside}: {best.method}"


def _one(found: Sequence[Row]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Columns of a single setting: the closest first, what failed last."""
    table = []
    for row in sorted(found, key=lambda row: (row.failed, 0.0 if row.failed else row.gap.mean)):
        cells = ["failed"] if row.failed else [
            interval_text(row.gap), interval_text(row.apart["accuracy_forget"], "+"),
            plain_text(row.shares["passes"], 1),
        ]  # fmt: skip
        table.append((NOTHING if row.original else row.method, cells))
    return ["mean distance", "d forgotten", "passes %"], table


def _many(
    found: Sequence[Row], settings: Sequence[str]
) -> tuple[list[str], list[tuple[str, list[str]]]]:  # fmt: skip
    """Mean distances of methods by setting, the longer of the two downwards."""
    methods = list(dict.fromkeys(row.method for row in found))
    by_place: Mapping[tuple[str, str], Interval] = {(row.method, row.setting): row.gap for row in found}
    names = {row.method: NOTHING if row.original else row.method for row in found}
    down = [(names[m], [(m, s) for s in settings]) for m in methods]
    header = list(settings)
    if len(settings) > ACROSS >= len(methods):
        down, header = [(s, [(m, s) for m in methods]) for s in settings], [names[m] for m in methods]
    table = [
        (name, [_cell(by_place[place]) if place in by_place else "" for place in places])
        for name, places in down
    ]
    return header, table


def _cell(value: Interval) -> str:
    return "failed" if isnan(value.mean) else interval_text(value)


def _line(name: str, cells: Sequence[str]) -> str:
    shown = "".join(f" {_cut(cell, CELL):>{CELL}}" for cell in cells[:ACROSS])
    return f"{_cut(name, NAME):<{NAME}}{shown}".rstrip()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
