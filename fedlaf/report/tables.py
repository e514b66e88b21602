"""The report's tables, once as rows of text, then for the console and for Markdown."""

from __future__ import annotations

from math import isnan

from rich.console import Console
from rich.table import Table

from fedlaf.report.report import COSTS, MEASURES, MODELS, Report, Served

Rows = list[list[str]]

BETWEEN = "between retrainings"
"""Title of the yardstick: the distance of models retrained from other seeds."""


def measure_rows(served: Served) -> Rows:
    """A header, then one row a measure that any model has; the yardstick comes last, where there is one."""
    between = served.yardstick
    rows = [["", *MODELS, *([BETWEEN] if between else [])]]
    for name, title in MEASURES.items():
        values = [served.measure(name, model) for model in MODELS]
        if any(value is not None for value in values):
            digits = 4 if name.startswith("js") else 1
            values += [between.get(name)] if between else []
            rows.append([title, *(_number(value, digits) for value in values)])
    return rows


def cost_rows(served: Served) -> Rows:
    """A header, then one row a cost: forgetting, retraining, and the one as a share of the other."""
    rows = [["cost", "unlearning", "retraining", "share"]]
    for name, title in COSTS.items():
        share = served.share(name)
        spent, whole = served.cost(name, "unlearned"), served.cost(name, "retrained")
        digits = 1 if name == "client_seconds" else 0
        shown = "" if share is None else f"{share:.1f} %"
        rows.append([title, _number(spent, digits), _number(whole, digits), shown])
    return rows


def title(served: Served) -> str:
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
    for served in report.served:
        console.print(_table(title(served), measure_rows(served)))
        if served.costs:
            console.print(_table(None, cost_rows(served)))
        for line in remarks(served):
            console.print(line, soft_wrap=True)
        if served.answers.get("failed"):
            console.print(f"answers of clients: {dict(served.answers)}")


def remarks(served: Served) -> list[str]:
    """What was noticed while the request was served, a line each."""
    lines = [f"{'stopped' if f.fatal else 'noticed'}: {f}" for f in served.findings]
    if served.stopped:
        lines.append("The request was not served: the model is the one from before it.")
    return lines


def markdown(rows: Rows) -> str:
    """A Markdown table; numbers are set to the right."""
    lines = ["| " + " | ".join(cell.strip() for cell in row) + " |" for row in rows]
    lines.insert(1, "|---|" + "---:|" * (len(rows[0]) - 1))
    return "\n".join(lines)


def _table(heading: str | None, rows: Rows) -> Table:
    table = Table(title=heading, title_justify="left")
    for place, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if place == 0 else "right")
    for row in rows[1:]:
        table.add_row(*row)
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
