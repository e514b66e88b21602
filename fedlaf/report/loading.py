"""A report as an earlier run left it: what `as_json` wrote, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any

from fedlaf.core.cost import Cost
from fedlaf.core.errors import InvalidValue
from fedlaf.evaluation import CATALOGUE, Catalogue, Evaluation, Group, Measure, Sense, Verdict
from fedlaf.evaluation.catalogue import in_order
from fedlaf.evaluation.verdict import Word
from fedlaf.method.answers import Answers, ClientFailures
from fedlaf.method.contract import Finding
from fedlaf.report.report import Report
from fedlaf.report.results import Point, RequestResult


def load(folder: str | Path) -> Report:
    """The report of the run in `folder`. Raises InvalidValue where there is none that can be read."""
    path = Path(folder) / "report.json"
    try:
        return _report(json.loads(path.read_text()), path.parent)
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected = f"the folder of a run that this version wrote ({type(error).__name__}: {error})"
        raise InvalidValue("folder", expected, str(folder)) from error


def _report(found: dict[str, Any], folder: Path) -> Report:
    curves = tuple(
        Point(**{**p, "measures": _numbers(p["measures"]), "by_class": _by_class(p["by_class"])})
        for p in found["curves"]
    )
    answers = {stage: _answers(found) for stage, found in found["answers"].items()}
    return Report(
        found["seed"], found["method"], tuple(map(result_of, found["requests"])), curves,
        Cost.of(found["training"]), found["seconds"], found["versions"], found["config"], answers, folder,
        found["command"], provenance=found["provenance"], ledger=found.get("ledger", {}),
        stream=found.get("stream", {}),
        alternatives=found.get("alternatives", False),
    )  # fmt: skip


def result_of(found: Mapping[str, Any]) -> RequestResult:
    """What became of one request, from its plain values."""
    added = {name: _measure(found) for name, found in found["added_measures"].items()}
    catalogue = in_order({**CATALOGUE, **added})
    return RequestResult(
        found["name"], found["round"], tuple(found["clients"]), found["rows"], tuple(found["withdrawn"]),
        {model: _evaluation(found, model, catalogue) for model in found["models"]},
        {model: Cost.of(cost) for model, cost in found["costs"].items()}, _answers(found["answers"]),
        tuple(Finding(**finding) for finding in found["findings"]), found["stopped"],
        _numbers(found["spread"]), _verdict(found["verdict"]),
        {model: tuple(clients) for model, clients in found["took_part"].items()}, found["stages"],
        onward={model: tuple(far) for model, far in found.get("onward", {}).items()},
    )  # fmt: skip


def _evaluation(found: Mapping[str, Any], model: str, catalogue: Catalogue) -> Evaluation:
    measures = {k: v for k, v in _numbers(found["models"][model]).items() if k != "gap"}  # made of the others
    by_class = _by_class(found["by_class"].get(model, {}))
    return Evaluation(measures, by_class, found["layers"].get(model, {}), catalogue)


def _by_class(found: Mapping[str, list[float | None]]) -> dict[str, tuple[float, ...]]:
    return {kind: tuple(_numbers(dict(enumerate(values))).values()) for kind, values in found.items()}


def _measure(found: dict[str, Any]) -> Measure:
    return Measure(**{**found, "group": Group(found["group"]), "sense": Sense(found["sense"])})


def _answers(found: dict[str, Any]) -> Answers:
    clients = {int(k): ClientFailures(**failures) for k, failures in found["clients"].items()}
    return Answers(found["asked"], found["failed"], clients)


def _verdict(found: dict[str, Any] | None) -> Verdict | None:
    if found is None:
        return None
    return Verdict(
        tuple(found["outcome"]), found["line"],
        {name: Word(word) for name, word in found["measures"].items()},
        _numbers(found["distances"]), _numbers(found["largest_between_retrainings"]),
        nan if found["rho"] is None else found["rho"], found["original_no_good"],
    )  # fmt: skip


def _numbers(values: Mapping[Any, float | None]) -> dict[Any, float]:
    return {name: nan if value is None else value for name, value in values.items()}
