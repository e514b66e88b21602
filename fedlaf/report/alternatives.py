"""Requests that are alternatives, each served from the same model: how they compare."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from fedlaf.report.report import Report
from fedlaf.report.results import RequestResult
from fedlaf.report.tables import Rows

MOST = 8
"""Clients that the console has room for: those that are furthest from retraining."""

COLUMNS = {"original": "doing nothing", "unlearned": "unlearned"}
BETWEEN = "between retrainings"


def alternative_rows(report: Report, most: int | None = None) -> Rows:
    """A header, a row a request with its mean distances to the retrained model (of doing nothing, of the
    method, between retrainings) and what it came to, and their means; with `most` those that are furthest.
    """
    shown = list(report.results)
    if most is not None and len(shown) > most:
        shown = sorted(shown, key=lambda one: _gap(one, "unlearned") or 0.0, reverse=True)[:most]
    header = ["client that leaves", "rows", *COLUMNS.values(), BETWEEN, "outcome"]
    rows = [[_clients(one), f"{one.rows:,}", *_distances([one]), _outcome(one)] for one in shown]
    return [header, *rows, [f"mean of {len(report.results)}", "", *_distances(report.results), ""]]


def alternatives_told(report: Report) -> str:
    """What became of all of them, in a sentence."""
    count = len(report.results)
    known = [gap for one in report.results if (gap := _gap(one, "unlearned")) is not None]
    if not known:
        return f"Each of {count} clients left once; there is no retrained model to compare with."
    nothing = [gap for one in report.results if (gap := _gap(one, "original")) is not None]
    return (
        f"Each of {count} clients left once, from the same model: {fmean(known):.1f} points from the "
        f"retrained model on average, from {min(known):.1f} to {max(known):.1f}; doing nothing "
        f"{fmean(nothing):.1f}."
    )


def _gap(one: RequestResult, model: str) -> float | None:
    return one.measure("gap", model)


def _clients(one: RequestResult) -> str:
    return ", ".join(map(str, one.clients))


def _distances(results: Sequence[RequestResult]) -> list[str]:
    columns = [[_gap(one, model) for one in results] for model in COLUMNS]
    columns.append([one.spread.get("gap") for one in results])
    known = [[value for value in column if value is not None] for column in columns]
    return [f"{fmean(column):.2f}" if column else "" for column in known]


def _outcome(one: RequestResult) -> str:
    if one.stopped:
        return "stopped"
    return ", ".join(one.verdict.outcome) if one.verdict else ""
