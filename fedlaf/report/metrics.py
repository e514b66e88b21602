"""The rounds of a run as flat values: what metrics.jsonl holds and trackers are given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite

from fedlaf.evaluation import CATALOGUE
from fedlaf.method.contract import RoundRecord
from fedlaf.report.report import Report
from fedlaf.report.results import Point

UNITS = {
    "passes": "rows", "bytes_down": "bytes", "bytes_up": "bytes", "client_seconds": "s",
    "labels_read": "labels",
}  # fmt: skip
"""Units of the costs that each round has."""


@dataclass(frozen=True)
class Metric:
    """One value of one round of one stage."""

    stage: str
    round: int
    name: str
    value: float
    unit: str = ""


def numbered(records: Sequence[RoundRecord]) -> Iterator[tuple[int, RoundRecord]]:
    """The rounds of a stage with their numbers in it: all phases together, on from those done before."""
    return enumerate(records, records[0].round if records else 1)


def of_round(stage: str, number: int, record: RoundRecord | None, point: Point | None) -> list[Metric]:
    """Of a round what clients reported (such as losses), what it cost, and its measures, by name."""
    found: dict[str, tuple[float, str]] = {}
    if record is not None:
        found |= {name: (value, "") for name, value in record.numbers.items()}
        found |= {name: (float(getattr(record.cost, name)), unit) for name, unit in UNITS.items()}
        found["clients"] = (float(len(record.asked) - len(record.failed)), "clients")
    for name, value in point.measures.items() if point is not None else ():
        found[name] = (value, CATALOGUE[name].unit if name in CATALOGUE else "")
    return [Metric(stage, number, name, value, unit) for name, (value, unit) in found.items()]


def rounds(report: Report) -> Iterator[list[Metric]]:
    """The metrics of each round of each stage, in order."""
    points = {(point.stage, point.round): point for point in report.curves}
    known = {(stage, n): record for stage, many in report.rounds.items() for n, record in numbered(many)}
    for stage in dict.fromkeys(stage for stage, _ in [*known, *points]):
        for number in sorted({n for of, n in [*known, *points] if of == stage}):
            at = (stage, number)
            yield of_round(stage, number, known.get(at), points.get(at))


def finals(report: Report) -> dict[str, float]:
    """Measures and costs of the models of each request, as final/REQUEST/MODEL/NAME."""
    found = {f"final/{r['request']}/{r['model']}/{r['name']}": r["value"] for r in report.to_records()}
    return {name: float(value) for name, value in found.items() if value is not None}


def json_lines(report: Report) -> str:
    """A line a round and metric: stage, round, name, value (null for NaN), unit."""
    lines = []
    for metric in (metric for many in rounds(report) for metric in many):
        values = asdict(metric)
        lines.append(json.dumps(values if isfinite(metric.value) else {**values, "value": None}))
    return "".join(f"{line}\n" for line in lines)
