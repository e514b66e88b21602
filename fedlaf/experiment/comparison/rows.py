"""A comparison's figures: a row a method, means over seeds with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isnan, nan
from typing import Any

from fedlaf.experiment.comparison.plan import ORIGINAL
from fedlaf.experiment.comparison.runs import Done
from fedlaf.report.intervals import Interval, interval
from fedlaf.report.tables import Rows, markdown

APART = {
    "accuracy_retain": "d remaining",
    "accuracy_forget": "d forgotten",
    "accuracy_test": "d test",
    "backdoor_success": "d backdoor",
    "attack_success": "d ASR",
}
"""Measures in percent of which the signed difference to the retrained model is shown."""

JS = {"js_forget": "JS forgotten", "js_test": "JS test"}
SHARES = {
    "passes": "passes %",
    "bytes": "bytes %",
    "client_seconds": "seconds %",
    "labels_read": "labels %",
}
"""Costs, each as a share of retraining's in the same run."""


@dataclass(frozen=True)
class Row:
    """One method in one setting, over seeds: `gaps` has its distance by seed, `errors` what failed, and
    `spread` is the distance that models retrained from other seeds have to each other .
    """

    setting: str
    method: str
    gap: Interval
    apart: Mapping[str, Interval]
    js: Mapping[str, Interval]
    shares: Mapping[str, float]
    stored_mb: float
    spread: Interval
    gaps: Mapping[int, float] = field(default_factory=dict)
    errors: Mapping[int, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether no seed has a figure."""
        return isnan(self.gap.mean)

    @property
    def original(self) -> bool:
        """Whether it is the row of doing nothing."""
        return self.method == ORIGINAL


def rows(done: Sequence[Done]) -> list[Row]:
    """A row for each setting and method, in the order of the runs."""
    grouped: dict[tuple[str, str], list[Done]] = {}
    for one in done:
        grouped.setdefault((one.run.setting, one.run.method), []).append(one)
    return [_row(*key, many) for key, many in grouped.items()]


def _row(setting: str, method: str, done: Sequence[Done]) -> Row:
    good = {one.run.seed: one.report["requests"][-1] for one in done if one.report and not one.error}
    unlearned = {seed: served["models"]["unlearned"] for seed, served in good.items()}
    retrained = {seed: served["models"]["retrained"] for seed, served in good.items()}
    gaps = {seed: _number(found, "gap") for seed, found in unlearned.items()}
    apart = {
        name: interval(_number(unlearned[seed], name) - _number(retrained[seed], name) for seed in good)
        for name in APART
    }
    js = {name: interval(_number(found, name) for found in unlearned.values()) for name in JS}
    shares = {name: interval(_share(served, name) for served in good.values()).mean for name in SHARES}
    stored = interval(served["costs"]["unlearned"].get("bytes_stored", 0.0) for served in good.values())
    errors = {one.run.seed: one.error for one in done if one.error}
    spread = interval(_number(served.get("spread", {}), "gap") for served in good.values())
    whole = interval(gaps.values())
    return Row(setting, method, whole, apart, js, shares, stored.mean / 1e6, spread, gaps, errors)


def _number(figures: Mapping[str, Any], name: str) -> float:
    value = figures.get(name)
    return nan if value is None else float(value)


def _share(served: Mapping[str, Any], name: str) -> float:
    keys = ("bytes_down", "bytes_up") if name == "bytes" else (name,)
    costs = (served["costs"][model] for model in ("unlearned", "retrained"))
    spent, whole = (sum(_number(cost, key) for key in keys) for cost in costs)
    return 100.0 * spent / whole if whole else nan


def table(found: Sequence[Row]) -> str:
    """Markdown, closest to the retrained model first; the best of each column is bold.

    The row of doing nothing takes no part in that, and columns that no row has are left out.
    """
    ordered = sorted(found, key=lambda row: (row.failed, row.gap.mean if not row.failed else 0.0))
    used = [name for name in APART if any(not isnan(row.apart[name].mean) for row in found)]
    stored = any(row.stored_mb > 0 for row in found)
    header = ["", "mean distance", *(APART[n] for n in used), *JS.values(), *SHARES.values()]
    lines: Rows = [[*header, *(["stored MB"] if stored else []), "notes"]]
    best = _Best([row for row in found if not (row.original or row.failed)])
    for row in ordered:
        cells = [best.of(row, lambda r: r.gap, _interval(row.gap))]
        cells += [best.of(row, lambda r, n=n: r.apart[n], _interval(row.apart[n], "+")) for n in used]
        cells += [best.of(row, lambda r, n=n: r.js[n], _interval(row.js[n], digits=4)) for n in JS]
        cells += [_plain(row.shares[name], 1) for name in SHARES]
        cells += [_plain(row.stored_mb, 0)] if stored else []
        name = "original (doing nothing)" if row.original else row.method
        lines.append([name, *cells, _notes(row)])
    return markdown(lines) + _spread(found)


def _spread(found: Sequence[Row]) -> str:
    known = [row.spread for row in found if row.original and not isnan(row.spread.mean)]
    told = "\n\nModels retrained from other seeds have a mean distance of {} to each other."
    return told.format(_interval(known[0])) if known else ""


class _Best:
    """Marks the smallest absolute mean of a column."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def of(self, row: Row, value: Any, text: str) -> str:
        """The text, bold for the best row."""
        known = [abs(value(r).mean) for r in self.rows if not isnan(value(r).mean)]
        is_best = row in self.rows and known and abs(value(row).mean) == min(known)
        return f"**{text}**" if is_best else text


def as_json(found: Sequence[Row]) -> list[dict[str, Any]]:
    """All rows as plain values; what there is no figure of becomes null."""
    cleaned: list[dict[str, Any]] = [_cleaned(asdict(row)) for row in found]
    return cleaned


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _cleaned(v) for k, v in value.items()}
    return None if isinstance(value, float) and isnan(value) else value


def _notes(row: Row) -> str:
    if row.failed and row.errors:
        return f"failed: {next(iter(row.errors.values()))}".replace("|", r"\|")
    marks = ["scatters"] if row.gap.scatters else []
    marks += [f"failed on seed {seed}: {line}" for seed, line in row.errors.items()]
    return "; ".join(marks).replace("|", r"\|")


def _interval(value: Interval, sign: str = "", digits: int = 2) -> str:
    if isnan(value.mean):
        return ""
    half = "" if isnan(value.half) else f" ± {value.half:.{digits}f}"
    return f"{value.mean:{sign}.{digits}f}{half}"


def _plain(value: float, digits: int) -> str:
    return "" if isnan(value) else f"{value:.{digits}f}"
