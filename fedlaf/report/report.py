"""The report of a run, as values: what the console, the files and the plot show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from fedlaf.core.cost import Cost
from fedlaf.core.types import Weights
from fedlaf.evaluation import Verdict
from fedlaf.evaluation.catalogue import CATALOGUE
from fedlaf.method.answers import Answers
from fedlaf.method.contract import RoundRecord
from fedlaf.report.records import Record, records
from fedlaf.report.results import COSTS, MODELS, Point, RequestResult, or_none


@dataclass(frozen=True)
class Report:
    """A whole run; `answers` says for each stage how often clients were asked and failed, `folder` where the
    weights of its stages are; `command` makes the run again, and `provenance` has hashes of what it was made
    with; `ledger` has the number of its entries and the hash of the last. `partition`, which only the page
    shows, has rows by client and class; `rounds`, for metrics.jsonl and trackers, the rounds of each stage.
    `stream` has what became of a stream of requests, as plain values. Where the results are `alternatives`,
    each is of a request that was served from the same model, as if there were no other.
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
    provenance: Mapping[str, str] = field(default_factory=dict)
    ledger: Mapping[str, Any] = field(default_factory=dict, compare=False)
    rounds: Mapping[str, tuple[RoundRecord, ...]] = field(default_factory=dict, compare=False)
    stream: Mapping[str, Any] = field(default_factory=dict)
    alternatives: bool = False

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
        if not path.with_suffix(".safetensors").is_file():
            raise LookupError(f"{model!r} is not in {path.parent}: it was erased")
        held = load_file(path.with_suffix(".safetensors"))
        names = json.loads(path.with_suffix(".json").read_text())["names"]
        return {name: held[name] for name in names}

    def to_records(self) -> list[Record]:
        """One flat row a request, model and measure or cost, for pandas or polars; see `records`."""
        return records(self.seed, self.method, self.results)

    @property
    def distance(self) -> float | None:
        """The unlearned model's mean distance to the retrained one: at the last request, or the mean over
        alternatives.
        """
        known = [gap for one in self._counted if (gap := one.measure("gap", "unlearned")) is not None]
        return sum(known) / len(known) if known else None

    @property
    def stopped(self) -> str | None:
        """Why the run ended before its time, in a line."""
        stopped = [one for one in self._counted if one.stopped]
        return stopped[0].findings[-1].stopping(stopped[0].name) if stopped else None

    @property
    def _counted(self) -> tuple[RequestResult, ...]:
        return self.results if self.alternatives else self.results[-1:]


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain values; NaN, where a measure has no rows, becomes null."""
    return {
        "seed": report.seed,
        "command": report.command,
        "method": report.method,
        "requests": [result_values(served) for served in report.results],
        "training": report.training.numbers(),
        "seconds": dict(report.seconds),
        "versions": dict(report.versions),
        "curves": [_point(point) for point in report.curves],
        "answers": {stage: _answers(answers) for stage, answers in report.answers.items()},
        "provenance": dict(report.provenance),
        "config": dict(report.config),
        "ledger": dict(report.ledger),
        **({"stream": dict(report.stream)} if report.stream else {}),
        **({"alternatives": True} if report.alternatives else {}),
    }


def _point(point: Point) -> dict[str, Any]:
    by_class, at = _classes(point.by_class), {k: getattr(point, k) for k in ("stage", "round", "passes")}
    return {**at, "measures": _plain(point.measures), "by_class": by_class}


def result_values(served: RequestResult) -> dict[str, Any]:
    """What became of one request as plain values."""
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
        **({"onward": {m: list(far) for m, far in served.onward.items()}} if served.onward else {}),
    }


def _answers(answers: Answers) -> dict[str, Any]:
    clients = {str(client): asdict(found) for client, found in answers.clients.items()}
    return {"asked": answers.asked, "failed": answers.failed, "clients": clients}


def _cost(cost: Cost) -> dict[str, float]:
    return {"passes": cost.passes, "rows_read": cost.rows_read, **cost.numbers()}


def _classes(by_class: Mapping[str, tuple[float, ...]]) -> dict[str, list[float | None]]:
    return {kind: [or_none(v) for v in values] for kind, values in by_class.items()}


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
    return {k: or_none(v) for k, v in values.items() if v is not None}
