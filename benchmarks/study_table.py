"""A study's results: figures over seeds, and the table and sentences that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan, nan
from typing import Any

from benchmarks.study_runs import Done
from benchmarks.summary import judged
from fedlaf.report.intervals import LEAST, Interval, interval
from fedlaf.report.tables import Rows, markdown

MEASURES = {
    "accuracy_test": "test",
    "accuracy_forget": "forget",
    "backdoor_success": "backdoor",
    "attack_success": "attack (ASR)",
}

AGAINST = "against default"


@dataclass(frozen=True)
class Result:
    """One row: distance to the retrained model, signed differences to it, and cost, over seeds.

    `gaps` are the distances and `errors` the failures by seed; `x` is the place on a sweep's axis.
    """

    label: str
    gap: Interval
    apart: Mapping[str, Interval]
    passes: float
    x: float | None = None
    default: bool = False
    original: bool = False
    errors: Mapping[int, str] | None = None
    gaps: Mapping[int, float] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether no seed has a figure."""
        return isnan(self.gap.mean)


def result(label: str, runs: Mapping[int, Done], model: str = "unlearned", **more: Any) -> Result:
    """The figures of `model` over the runs of one variant, by seed."""
    served = {seed: judged(run.report) for seed, run in runs.items() if run.report and not run.error}
    apart = {name: interval(_apart(s, name, model) for s in served.values()) for name in MEASURES}
    gaps = {seed: _number(s["models"][model], "gap") for seed, s in served.items()}
    shares = [_number(s["share_of_retraining_percent"], "passes") for s in served.values()]
    passes = interval(shares).mean if model == "unlearned" else 0.0
    errors = {seed: run.error for seed, run in runs.items() if run.error}
    original = model == "original"
    return Result(
        label, interval(gaps.values()), apart, passes, original=original, errors=errors, gaps=gaps, **more
    )


def negative_weight(result: Result, default: Result) -> Interval:
    """The row's mean distance minus the default's, paired by seed: less than 0 is closer."""
    return interval(gap - default.gaps[seed] for seed, gap in result.gaps.items() if seed in default.gaps)


def table(results: list[Result], *, paired: bool = True) -> str:
    """Markdown: a row each; columns of measures that no row has are left out.

    `paired` adds the difference to the default row, where all rows have the same retrained model.
    """
    used = [name for name in MEASURES if any(not isnan(r.apart[name].mean) for r in results)]
    default = next((r for r in results if r.default and not r.failed), None) if paired else None
    compared = [] if default is None else [AGAINST]
    measures = [f"d {MEASURES[n]}" for n in used]
    rows: Rows = [["", "mean distance", *compared, *measures, "client passes %", "notes"]]
    for r in results:
        label = f"**{r.label} (default)**" if r.default else r.label
        figures = [_shown(r.gap)]
        if default is not None:
            figures.append("" if r is default else _shown(negative_weight(r, default), "+"))
        figures += [_shown(r.apart[n], "+") for n in used]
        rows.append([label, *figures, "" if isnan(r.passes) else f"{r.passes:.1f}", _notes(r)])
    return markdown(rows)


def words(results: list[Result], seeds: list[int], *, paired: bool = True) -> str:
    """What stands under the table: how to read it, and which rows scatter over the seeds."""
    many = "Means over the seeds ± the half-width of the 95 % Student-t interval"
    over = many if len(seeds) > 1 else "One seed, so there are no intervals"
    read = (
        f"{over}. The mean distance to the retrained model is over all measures in percent; d is the "
        "row's model minus the retrained one. Both are in points. Client passes are in percent of "
        "retraining's."
    )
    if paired:
        read += (
            f" {AGAINST.capitalize()} is the row's mean distance minus the default row's, seed by seed, for "
            "the same original and retrained model: below 0 is closer to retraining."
        )
    return "\n\n".join([read, *_scatter(results)] if len(seeds) > 1 else [read])


def _scatter(results: list[Result]) -> list[str]:
    rule = f"the interval's half-width is above {LEAST:g} point and above the mean distance itself"
    found = "; ".join(f"{r.label}, {_shown(r.gap)}" for r in results if r.gap.scatters)
    if found:
        return [f"**These scatter over the seeds**: {found}. Here {rule}: the mean says little."]
    return [f"No row scatters over the seeds (it would where {rule})."]


def _notes(result: Result) -> str:
    marks = ["scatters"] if result.gap.scatters else []
    if result.failed and result.errors:
        marks.append(f"failed: {next(iter(result.errors.values()))}")
    elif result.errors:
        marks += [f"failed on seed {seed}: {line}" for seed, line in result.errors.items()]
    return "; ".join(marks).replace("|", r"\|")


def _shown(value: Interval, sign: str = "") -> str:
    if isnan(value.mean):
        return ""
    half = "-" if isnan(value.half) else f"{value.half:.2f}"
    return f"{value.mean:{sign}.2f} ± {half}"


def _apart(served: Mapping[str, Any], name: str, model: str) -> float:
    models = served["models"]
    return _number(models[model], name) - _number(models["retrained"], name)


def _number(figures: Mapping[str, Any], name: str) -> float:
    value = figures.get(name)
    return nan if value is None else float(value)
