"""The report of a run, as values: what the console, the files and the plot show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlaf.core.cost import Cost
from fedlaf.core.types import Weights
from fedlaf.evaluation import Evaluation, Verdict
from fedlaf.evaluation.catalogue import CATALOGUE, Catalogue
from fedlaf.method.answers import Answers
from fedlaf.method.contract import Finding
from fedlaf.report.view import RequestView

MODELS = ("original", "unlearned", "retrained")

MEASURES = {name: measure.label for name, measure in CATALOGUE.items()}

COSTS = {
    "passes": "client passes over samples",
    "gradient_passes": "  of these with gradient",
    "forward_passes": "  of these forward only",
    "bytes_down": "bytes down",
    "bytes_up": "bytes up",
    "client_seconds": "client seconds",
    "labels_read": "labels read",
    "rows_read": "different rows read",
    "retain_rows_read": "  of these remaining",
    "forget_rows_read": "  of these to be forgotten",
    "rounds": "rounds",
    "bytes_stored": "bytes stored on the server",
    "client_memory": "peak memory, largest client (MB)",
    "gpu_memory": "peak GPU memory, largest client (MB)",
    "driver_memory": "peak memory, server (MB)",
}
IF_ANY = ("bytes_stored", "gpu_memory")
"""Costs that are shown only where there are any."""


@dataclass(frozen=True)
class Point:
    """One point of a curve: after `passes` client passes of its stage.

    `represented` has the representations [N, D] of the forgotten rows that the page draws.
    """

    stage: str
    round: int
    passes: float
    measures: Mapping[str, float]
    by_class: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    represented: npt.NDArray[np.float16] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RequestResult:
    """One request: when it came, whom it concerned, how models compare, what it cost.

    `costs` are those of the forgetting (`unlearned`) and of the retraining (`retrained`). `findings`
    is what the method noticed; when it `stopped`, the unlearned model is the original one.
    `spread` has each measure's mean distance between retrainings of other seeds, if asked for.
    `took_part` has the clients that answered at least once, for forgetting and for retraining; `stages` the
    saved stage that each model's weights come from; `view` what only the page shows.
    """

    name: str
    round: int
    clients: tuple[int, ...]
    rows: int
    withdrawn: tuple[int, ...]
    models: Mapping[str, Evaluation]
    costs: Mapping[str, Cost]
    answers: Answers = field(default_factory=Answers)
    findings: tuple[Finding, ...] = ()
    stopped: bool = False
    spread: Mapping[str, float] = field(default_factory=dict)
    verdict: Verdict | None = None
    took_part: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    view: RequestView = field(default_factory=RequestView, compare=False)

    @property
    def catalogue(self) -> Catalogue:
        """What its measures are: those of every run, and those that were added to this one."""
        return next((evaluation.catalogue for evaluation in self.models.values()), CATALOGUE)

    def measure(self, name: str, model: str) -> float | None:
        """A measure of a model, `gap` computed here; None where there is none."""
        evaluation = self.models.get(model)
        if evaluation is None:
            return None
        if name == "gap":
            reference = self.models.get("retrained")
            return None if reference is None else evaluation.gap(reference)
        return evaluation.measures.get(name)

    def cost(self, name: str, model: str) -> float | None:
        """A cost of a stage; None where that stage was not run."""
        cost = self.costs.get(model)
        return None if cost is None else float(getattr(cost, name))

    def share(self, name: str) -> float | None:
        """The forgetting's cost as a percentage of the retraining's."""
        spent, whole = self.cost(name, "unlearned"), self.cost(name, "retrained")
        return None if spent is None or not whole else 100.0 * spent / whole


@dataclass(frozen=True)
class Report:
    """A whole run; `answers` says for each stage how often clients were asked and failed, `folder` where the
    weights of its stages are; `command` makes the run again, and `partition`, which only the page shows, has
    rows by client and class.
    """

    seed: int
    method: str
    results: tuple[RequestResult, ...]
    curves: tuple[Point, ...]
    training: Cost
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    config: Mapping[str, Any]
    answers: Mapping[str, Answers] = field(default_factory=dict)
    folder: Path | None = field(default=None, compare=False)
    command: str = ""
    partition: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def measure(self, name: str, model: str = "unlearned", *, request: int = -1) -> float | None:
        """A measure of a model (original, unlearned, retrained) at a request, by its place; None where there
        is none.
        """
        return self.results[request].measure(name, model)

    def weights(self, model: str = "unlearned", *, request: int = -1) -> Weights:
        """The weights of a model at a request, by name, from the run's folder.

        Raises LookupError where that model was not made, or the report is in no folder.
        """
        stage = self.results[request].stages.get(model)
        if stage is None or self.folder is None:
            raise LookupError(f"{model!r} was not saved: there are {dict(self.results[request].stages)}")
        from safetensors.numpy import load_file

        path = self.folder / "stages" / stage
        held = load_file(path.with_suffix(".safetensors"))
        names = json.loads(path.with_suffix(".json").read_text())["names"]
        return {name: held[name] for name in names}

    def to_records(self) -> list[dict[str, str | int | float | None]]:
        """One flat row a request, model and measure or cost, for pandas or polars; see `records`."""
        from fedlaf.report.records import records

        return records(self)

    @property
    def stopped(self) -> str | None:
        """Why the run ended before its time, in a line."""
        last = self.results[-1] if self.results else None
        if last is None or not last.stopped:
            return None
        return last.findings[-1].stopping(last.name)


def _or_none(value: float | None) -> float | None:
    return None if value is None or isnan(value) else value


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain values; NaN, where a measure has no rows, becomes null."""
    return {
        "seed": report.seed,
        "command": report.command,
        "method": report.method,
        "requests": [_served(served) for served in report.results],
        "training": report.training.numbers(),
        "seconds": dict(report.seconds),
        "versions": dict(report.versions),
        "curves": [_point(point) for point in report.curves],
        "answers": {stage: _answers(answers) for stage, answers in report.answers.items()},
        "config": dict(report.config),
    }


def _point(point: Point) -> dict[str, Any]:
    by_class, at = _classes(point.by_class), {k: getattr(point, k) for k in ("stage", "round", "passes")}
    return {**at, "measures": _plain(point.measures), "by_class": by_class}


def _served(served: RequestResult) -> dict[str, Any]:
    names = [m for m in MODELS if m in served.models]
    added = {k: asdict(m) for k, m in served.catalogue.items() if k not in CATALOGUE}
    return {
        "name": served.name,
        "round": served.round,
        "clients": list(served.clients),
        "rows": served.rows,
        "withdrawn": list(served.withdrawn),
        "models": {m: _plain({k: served.measure(k, m) for k in served.catalogue}) for m in names},
        "added_measures": added,
        "by_class": {m: _classes(served.models[m].by_class) for m in names},
        "layers": {m: dict(served.models[m].layers) for m in names if served.models[m].layers},
        "spread": _plain(served.spread),
        "verdict": _verdict(served.verdict),
        "costs": {m: _cost(cost) for m, cost in served.costs.items()},
        "took_part": {m: list(clients) for m, clients in served.took_part.items()},
        "share_of_retraining_percent": _plain({k: served.share(k) for k in COSTS}),
        "stages": dict(served.stages),
        "answers": _answers(served.answers),
        "findings": [asdict(finding) for finding in served.findings],
        "stopped": served.stopped,
    }


def _answers(answers: Answers) -> dict[str, Any]:
    clients = {str(client): asdict(found) for client, found in answers.clients.items()}
    return {"asked": answers.asked, "failed": answers.failed, "clients": clients}


def _cost(cost: Cost) -> dict[str, float]:
    return {"passes": cost.passes, "rows_read": cost.rows_read, **cost.numbers()}


def _classes(by_class: Mapping[str, tuple[float, ...]]) -> dict[str, list[float | None]]:
    return {kind: [_or_none(v) for v in values] for kind, values in by_class.items()}


def _verdict(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {
        "outcome": list(verdict.outcome),
        "line": verdict.line,
        "measures": {name: str(found) for name, found in verdict.words.items()},
        "distances": _plain(verdict.distances),
        "largest_between_retrainings": _plain(verdict.limits),
        "rho": verdict.rho if isfinite(verdict.rho) else None,
        "original_no_good": verdict.gate,
    }


def _plain(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {k: _or_none(v) for k, v in values.items() if v is not None}
