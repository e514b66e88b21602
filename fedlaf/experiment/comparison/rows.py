"""A comparison's figures: a row a method, means over seeds with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isnan, nan
from typing import Any

from fedlaf.experiment.comparison.plan import ORIGINAL
from fedlaf.experiment.comparison.runs import Done
from fedlaf.experiment.comparison.stream_figures import stream_figures
from fedlaf.report.intervals import Interval, interval

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
    """One method in one setting, over seeds: `means` has the measures of its model and of the retrained one,
    `gaps` its distance by seed, `errors` what failed; `spread` is how far models retrained from other seeds
    are from each other, `stream` the figures of a stream of requests.
    """

    setting: str
    method: str
    gap: Interval
    apart: Mapping[str, Interval]
    js: Mapping[str, Interval]
    shares: Mapping[str, float]
    stored_mb: float
    spread: Interval
    means: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    gaps: Mapping[int, float] = field(default_factory=dict)
    errors: Mapping[int, str] = field(default_factory=dict)
    stream: Mapping[str, Interval] = field(default_factory=dict)

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
    good = {one.run.seed: _counted(one.report) for one in done if one.report and not one.error}
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
    means = {
        model: {name: interval(_number(served[seed], name) for seed in good).mean for name in APART}
        for model, served in (("unlearned", unlearned), ("retrained", retrained))
    }
    figures = [stream_figures(one.report) for one in done if one.report and not one.error]
    stream = {name: interval(found[name] for found in figures) for name in (figures[0] if figures else ())}
    return Row(
        setting, method, whole, apart, js, shares, stored.mean / 1e6, spread, means, gaps, errors, stream
    )  # fmt: skip


def _counted(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """What became of the last request; of requests that are alternatives, the means over all of them."""
    requests = report["requests"]
    return _means(requests) if report.get("alternatives") else requests[-1]


def _means(requests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def over(section: str, model: str) -> dict[str, float]:
        held = [one[section][model] for one in requests if model in one[section]]
        return {name: interval(_number(one, name) for one in held).mean for name in (held[0] if held else ())}

    models = {model: over("models", model) for model in ("unlearned", "retrained")}
    costs = {model: over("costs", model) for model in ("unlearned", "retrained")}
    spread = interval(_number(one.get("spread", {}), "gap") for one in requests).mean
    return {"models": models, "costs": costs, "spread": {"gap": spread}}


def _number(figures: Mapping[str, Any], name: str) -> float:
    value = figures.get(name)
    return nan if value is None else float(value)


def _share(served: Mapping[str, Any], name: str) -> float:
    keys = ("bytes_down", "bytes_up") if name == "bytes" else (name,)
    costs = (served["costs"][model] for model in ("unlearned", "retrained"))
    spent, whole = (sum(_number(cost, key) for key in keys) for cost in costs)
    return 100.0 * spent / whole if whole else nan


def against(row: Row, default: Row) -> Interval:
    """The row's mean distance minus the default's, paired by seed: below 0 is closer to retraining."""
    return interval(gap - default.gaps[seed] for seed, gap in row.gaps.items() if seed in default.gaps)


def as_json(found: Sequence[Row]) -> list[dict[str, Any]]:
    """All rows as plain values; what there is no figure of becomes null."""
    cleaned: list[dict[str, Any]] = [_cleaned(asdict(row)) for row in found]
    return cleaned


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _cleaned(v) for k, v in value.items()}
    return None if isinstance(value, float) and isnan(value) else value
