"""The end of a run on one screen of 80 x 24: the verdict, the decisive rows, where the rest is."""

from __future__ import annotations

from math import isnan, nan
from pathlib import Path
from textwrap import shorten

from rich.console import Console

from fedlaf.evaluation import CATALOGUE, Group
from fedlaf.report.alternatives import MOST as ALTERNATIVES
from fedlaf.report.alternatives import alternative_rows, alternatives_told
from fedlaf.report.page.sentence import reasons, sentence
from fedlaf.report.report import Report
from fedlaf.report.results import COSTS, MODELS, RequestResult, or_none
from fedlaf.report.stream_console import show_stream_briefly
from fedlaf.report.tables import BETWEEN, Rows, cost_rows, failures, measure_rows, table, title

WIDTH = 80
MOST = 8
"""Measures that the screen has room for."""
TITLES = 29
"""Characters that a title has."""
LINES = 3
"""Lines of each kind, at most, on what else happened."""
SENTENCES = 4
"""Lines of the verdict, at most."""
SPENT = ("passes", "client_seconds", "rounds", "labels_read")
"""Costs that the screen has."""


def summary(report: Report, folder: Path, console: Console) -> None:
    """Print the last request's verdict and its decisive rows, a line on each request before it, and where
    the rest is.
    """
    lines = [f"failed: {line}" for line in failures(report)]
    if report.alternatives:
        console.print(alternatives_told(report), highlight=False, markup=False)
        shown = [row[:-1] for row in alternative_rows(report, ALTERNATIVES)]
        console.print(table("Mean distance to retrained (points)", shown, {}, TITLES))
        lines += [f"{one.name}: {f}" for one in report.results for f in one.findings]
    elif report.results:
        *before, served = report.results
        console.print(shorten(verdict(served), SENTENCES * WIDTH), highlight=False, markup=False)
        if not report.stream:
            for line in _at_most([outcome(one) for one in before]):
                console.print(line, soft_wrap=True, highlight=False, markup=False)
            costs = {name.strip(): "cost" for name in COSTS.values()}
            console.print(table(title(served), rows(served), costs, TITLES))
        lines += [f"{'stopped' if f.fatal else 'noticed'}: {f}" for f in served.findings]
    if report.stream:
        show_stream_briefly(report.stream, console)
    for line in _at_most(lines):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    page = next((name for name in ("report.html", "report.md") if (folder / name).is_file()), "report.json")
    rest = f"All measures: {folder / page} (and report.json there); -v prints them."
    console.print(rest, soft_wrap=True, highlight=False, markup=False)


def verdict(served: RequestResult) -> str:
    """The verdict in plain words, and how to get one where there is none."""
    unknown = served.verdict and "no reference seeds" in served.verdict.outcome and not served.stopped
    hint = "evaluation.reference_seeds=1 retrains one." if unknown else ""
    return " ".join(filter(None, (sentence(served), reasons(served), hint)))


def outcome(served: RequestResult) -> str:
    """What a request came to, in a few words: its outcome and its mean distance to the retrained model."""
    gap = served.measure("gap", "unlearned")
    far = "" if gap is None or isnan(gap) else f"; mean distance {gap:.1f} points"
    said = ("stopped",) if served.stopped else served.verdict.outcome if served.verdict else ("no reference",)
    return f"{served.name}: {', '.join(said)}{far}"


def decisive(served: RequestResult) -> list[str]:
    """Names of the measures that the screen shows: the mean distance, then of those that decide all
    accuracies, of attacks and of divergences the one farthest from retraining, and what a user has added.
    """
    deciding = [name for name, m in served.catalogue.items() if m.decides and _there(name, served)]
    of = {group: [n for n in deciding if n in CATALOGUE and CATALOGUE[n].group is group] for group in Group}
    farthest = [
        max(of[group], key=lambda name: _far(name, served))
        for group in (Group.MEMBERSHIP, Group.DISTANCE)
        if of[group]
    ]
    added = [name for name in deciding if name not in CATALOGUE]
    return ["gap", *of[Group.ACCURACY], *farthest, *added][:MOST]


def rows(served: RequestResult) -> Rows:
    """A header, the decisive measures, and the costs of forgetting and of retraining below them."""
    found = measure_rows(served, decisive(served))
    if BETWEEN in found[0]:
        place = found[0].index(BETWEEN)
        found = [[*row[:place], *row[place + 1 :]] for row in found]
    found = [[_brief(row[0]), *row[1:]] for row in found]
    if not served.costs:
        return found
    costs = [row for row in cost_rows(served) if row[0] in {COSTS[name] for name in SPENT}]
    width = len(found[0])
    spent = [[name.strip(), "", _short(ours), _short(theirs), share] for name, ours, theirs, share in costs]
    return [*found, *([*row, ""][:width] for row in spent)]


def _brief(label: str) -> str:
    return label.replace(" to retrained", "")


def _short(number: str) -> str:
    """A number as it is, or in millions where it would be wider than its column."""
    return number if len(number) <= len(MODELS[1]) else f"{float(number.replace(',', '')) / 1e6:,.1f} M"


def _there(name: str, served: RequestResult) -> bool:
    return any(or_none(served.measure(name, model)) is not None for model in MODELS)


def _far(name: str, served: RequestResult) -> float:
    """The distance to the retrained model, in distances between retrainings where they are known."""
    if served.verdict is None:
        return 0.0
    distance, limit = (d.get(name, nan) for d in (served.verdict.distances, served.verdict.limits))
    return 0.0 if isnan(distance) else distance if isnan(limit) else distance / max(limit, 1e-9)


def _at_most(lines: list[str]) -> list[str]:
    hidden = len(lines) - LINES
    return [*lines[:LINES], *([f"... and {hidden} more"] if hidden > 0 else [])]
