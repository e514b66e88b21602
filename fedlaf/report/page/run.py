"""A run's page: from the report to the plain values that report.html draws and page.json holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fedlaf.core.cost import PEAKS
from fedlaf.report.alternatives import alternative_rows
from fedlaf.report.page.html import document, plain
from fedlaf.report.page.sentence import reasons, sentence
from fedlaf.report.plot import training_stages
from fedlaf.report.report import Report
from fedlaf.report.results import COSTS, IF_ANY, MODELS, Point, RequestResult
from fedlaf.report.tables import onward_rows, remarks, title

MEGABYTE = 1e6


def run_page(data: Mapping[str, Any]) -> str:
    """The HTML of a run from what `page_data` gives."""
    return document(f"fedlaf: {data['method']}, seed {data['seed']}", "run", data)


def page_data(report: Report) -> dict[str, Any]:
    """All that a run's page shows, as values that JSON takes; what has no value is null."""
    data = {
        "method": report.method,
        "seed": report.seed,
        "command": report.command,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "requests": [_request(report, number) for number in range(len(report.results))],
        "partition": dict(report.partition),
        "seconds": dict(report.seconds),
        "versions": dict(report.versions),
        "config": dict(report.config),
        "stream": dict(report.stream) or None,
        "alternatives": alternative_rows(report) if report.alternatives else None,
    }
    cleaned: dict[str, Any] = plain(data)
    return cleaned


def _request(report: Report, number: int) -> dict[str, Any]:
    served = report.results[number]
    models = [model for model in MODELS if model in served.models]
    return {
        "name": served.name,
        "title": title(served),
        "sentence": sentence(served),
        "reasons": reasons(served),
        "remarks": remarks(served),
        "models": models,
        "measures": _measures(served),
        "by_class": {model: dict(served.models[model].by_class) for model in models},
        "layers": {m: dict(served.models[m].layers) for m in models if served.models[m].layers},
        "costs": _costs(served),
        "onward": onward_rows(served) or None,
        "rounds": _rounds(report, number),
        **served.view.values,
    }


def _measures(served: RequestResult) -> list[dict[str, Any]]:
    """Each measure that any model has: its values, and how far retrained models are from each other."""
    verdict, found = served.verdict, []
    for name, measure in served.catalogue.items():
        values = {model: served.measure(name, model) for model in MODELS}
        if all(value is None for value in values.values()):
            continue
        found.append({
            "name": name, "title": measure.label, "group": str(measure.group), "sense": str(measure.sense),
            "digits": measure.digits, "decides": measure.decides, "values": values,
            "band": verdict.limits.get(name) if verdict else None,
            "distance": verdict.distances.get(name) if verdict else None,
            "word": str(verdict.words.get(name, "")) if verdict else "",
        })  # fmt: skip
    return found


def _costs(served: RequestResult) -> list[dict[str, Any]]:
    found = []
    for name, label in COSTS.items():
        spent, whole = served.cost(name, "unlearned"), served.cost(name, "retrained")
        if (name in IF_ANY and not (spent or whole)) or (spent is None and whole is None):
            continue
        if name in PEAKS:
            spent, whole = (value and value / MEGABYTE for value in (spent, whole))
        cost = {"name": name, "title": label.strip(), "unlearned": spent, "retrained": whole}
        found.append({**cost, "share": served.share(name)})
    return found


def _rounds(report: Report, number: int) -> list[dict[str, Any]]:
    """The curves of one request, a point a round: training up to it, forgetting, and retraining."""
    served = report.results[number]
    if not served.clients or report.stream:
        return []
    training = training_stages(report, served.round)
    phases = {
        **dict.fromkeys(training, "training"), served.name: "forgetting",
        served.name.replace("request", "retrain"): "retraining",
    }  # fmt: skip
    points = [p for p in report.curves if p.stage in phases]
    points = [p for p in points if phases[p.stage] != "training" or p.round <= served.round]
    return [_round(point, phases[point.stage], served) for point in points]


def _round(point: Point, phase: str, served: RequestResult) -> dict[str, Any]:
    at, projection = None, served.view.projection
    if point.represented is not None and projection is not None:
        at = projection.at(point.represented)
    return {
        "phase": phase, "round": point.round, "passes": point.passes, "measures": dict(point.measures),
        "by_class": {kind: point.by_class[kind] for kind in ("test", "forget") if kind in point.by_class},
        "at": at,
    }  # fmt: skip
