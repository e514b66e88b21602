"""The report's tables, once as rows of text, then for the console and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isnan

from rich import box
from rich.console import Console
from rich.table import Table

from fedlaf.core.cost import PEAKS
from fedlaf.evaluation.verdict import Word
from fedlaf.report.report import Report
from fedlaf.report.results import COSTS, IF_ANY, MODELS, RequestResult

Rows = list[list[str]]

BETWEEN = "between retrainings"
"""Title of the spread: the distance of models retrained from other seeds."""
DISTANCE, VERDICT = "distance", "verdict"
TITLES = 35
"""Characters that a title has on the console, so that numbers are wrapped last."""
WIDEST = 11
"""Characters that a column of numbers has on the console at most; its title is wrapped."""
MEGABYTE = 1e6


def measure_rows(served: RequestResult, names: Iterable[str] | None = None) -> Rows:
    """A header, then one row a measure that any model has, of those called `names` (None: of all).

    The distance to the retrained model, the spread and the verdict come last, where there are any.
    """
    verdict, spread = served.verdict, served.spread
    judges = bool(verdict and any(w is not Word.UNKNOWN for w in verdict.words.values()))
    header = ["", *MODELS]
    header += [DISTANCE] if verdict and verdict.distances else []
    header += [BETWEEN] if spread else []
    rows = [[*header, *([VERDICT] if judges else [])]]
    for name in served.catalogue if names is None else names:
        measure, values = served.catalogue[name], [served.measure(name, model) for model in MODELS]
        if all(value is None for value in values):
            continue
        values += [verdict.distances.get(name)] if verdict and verdict.distances else []
        values += [spread.get(name)] if spread else []
        word = [str(verdict.words.get(name, ""))] if verdict and judges else []
        rows.append([measure.label, *(_number(value, measure.digits) for value in values), *word])
    return rows


def class_rows(served: RequestResult) -> Rows:
    """A header, then a row for each class: accuracy on test rows and on forgotten rows, by model.

    Empty without more than one class.
    """
    models = [model for model in MODELS if model in served.models and served.models[model].by_class]
    if not models:
        return []
    kinds = [kind for kind in ("test", "forget") if kind in served.models[models[0]].by_class]
    rows = [["class", *(f"{kind}, {model}" for kind in kinds for model in models)]]
    found = [served.models[model].by_class[kind] for kind in kinds for model in models]
    for number, values in enumerate(zip(*found, strict=True)):
        rows.append([str(number), *(_number(value, 1) for value in values)])
    return rows


def layer_rows(served: RequestResult) -> Rows:
    """A header, then a row for each layer: its likeness to the retrained model's; empty if not asked for."""
    models = [model for model in MODELS if model in served.models and served.models[model].layers]
    if not models:
        return []
    layers = list(served.models[models[0]].layers)
    found = {model: served.models[model].layers for model in models}
    return [
        ["CKA to retrained", *models],
        *([layer, *(_number(found[model].get(layer), 4) for model in models)] for layer in layers),
    ]


def cost_rows(served: RequestResult) -> Rows:
    """A header, then one row a cost: forgetting, retraining, and the one as a share of the other."""
    rows = [["cost", "unlearning", "retraining", "share"]]
    for name, title in COSTS.items():
        share = served.share(name)
        spent, whole = served.cost(name, "unlearned"), served.cost(name, "retrained")
        if name in IF_ANY and not (spent or whole):
            continue
        if name in PEAKS:
            spent, whole = (value and value / MEGABYTE for value in (spent, whole))
        digits = 1 if name == "client_seconds" else 0
        shown = "" if share is None else f"{share:.1f} %"
        rows.append([title, _number(spent, digits), _number(whole, digits), shown])
    if served.took_part:
        ours, theirs = (served.took_part.get(model) for model in ("unlearned", "retrained"))
        shown = f"{100 * len(ours) / len(theirs):.1f} %" if ours is not None and theirs else ""
        rows.append(
            ["clients that took part", *("" if c is None else str(len(c)) for c in (ours, theirs)), shown]
        )
    return rows


def onward_rows(served: RequestResult) -> Rows:
    """A header, then a row a further round of training: each model's distance to the retrained one, which
    went on too; empty if not asked for.
    """
    if not served.onward:
        return []
    columns = [[_number(value, 2) for value in far] for far in served.onward.values()]
    names = {"original": "original (just carry on)"}
    header = ["further round", *(names.get(model, model) for model in served.onward)]
    return [header, *([str(at), *values] for at, values in enumerate(zip(*columns, strict=True), 1))]


def title(served: RequestResult) -> str:
    """What was asked, in a line."""
    if not served.clients:
        return f"{served.name}: training went on to round {served.round}"
    who = _few("client", served.clients)
    one = len(served.clients) == 1
    rows = f"{served.rows:,} {'row' if served.rows == 1 else 'rows'}"
    line = f"{served.name}, after round {served.round}: {who} {'forgets' if one else 'forget'} {rows}"
    if served.withdrawn == served.clients:
        return f"{line} and {'withdraws' if one else 'withdraw'}"
    if served.withdrawn:
        verb = "withdraws" if len(served.withdrawn) == 1 else "withdraw"
        return f"{line}; {_few('client', served.withdrawn)} {verb}"
    return line


def show(report: Report, console: Console) -> None:
    """Print both tables of each request."""
    for line in failures(report):
        console.print(f"failed: {line}", soft_wrap=True)
    for served in report.results:
        groups = {measure.label: measure.group for measure in served.catalogue.values()}
        brief = [name for name, measure in served.catalogue.items() if measure.brief]
        console.print(table(title(served), measure_rows(served, brief), groups))
        if served.costs:
            console.print(table(None, cost_rows(served), {}))
        for line in remarks(served):
            console.print(line, soft_wrap=True)


def failures(report: Report) -> list[str]:
    """Who failed in which stage, how often and why: a line each."""
    return [line for stage, answers in report.answers.items() for line in answers.lines(stage)]


def remarks(served: RequestResult) -> list[str]:
    """The verdict, and what was noticed while the request was served, a line each."""
    lines = [f"verdict: {served.verdict.line}"] if served.verdict else []
    lines += [f"{'stopped' if f.fatal else 'noticed'}: {f}" for f in served.findings]
    if served.took_part:
        lines.append(_who_took_part(served))
    if served.stopped:
        lines.append("The request was not served: the model is the one from before it.")
    return lines


def markdown(rows: Rows) -> str:
    """A Markdown table; numbers are set to the right."""
    lines = ["| " + " | ".join(cell.strip() for cell in row) + " |" for row in rows]
    lines.insert(1, "|---|" + "---:|" * (len(rows[0]) - 1))
    return "\n".join(lines)


def _who_took_part(served: RequestResult) -> str:
    asked = served.took_part.get("unlearned", ())
    withdrawing = [k for k in served.clients if k in asked]
    named = "nobody" if not asked else _few("client", tuple(asked))
    if not served.clients:
        return f"asked to forget: {named}"
    forgetting = (
        "all" if len(withdrawing) == len(served.clients) else f"{len(withdrawing)} of {len(served.clients)}"
    )
    return f"asked while forgetting: {named} ({forgetting} of those that forget)"


def table(heading: str | None, rows: Rows, groups: Mapping[str, str], titles: int = TITLES) -> Table:
    """Rows as a table of the console, with so many characters for `titles`; a line parts those whose first
    cells are of different `groups`.
    """
    table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for place, name in enumerate(rows[0]):
        if place == 0:
            table.add_column(name, min_width=titles)
        else:
            table.add_column(name, justify="right", no_wrap=name == VERDICT, max_width=WIDEST)
    for row, after in zip(rows[1:], [*rows[2:], [""]], strict=True):
        table.add_row(*row, end_section=groups.get(row[0]) != groups.get(after[0]))
    return table


def _number(value: float | None, digits: int) -> str:
    if value is None or isnan(value):
        return ""
    return f"{value:,.{digits}f}"


def _few(noun: str, ids: tuple[int, ...]) -> str:
    if len(ids) == 1:
        return f"{noun} {ids[0]}"
    if len(ids) <= 5:
        return f"{noun}s {', '.join(map(str, ids))}"
    return f"{len(ids)} {noun}s"
