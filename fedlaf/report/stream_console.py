"""The tables of a stream on the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from fedlaf.report.stream_tables import (
    cost_rows,
    counts_line,
    persistence_rows,
    prefix_rows,
    request_rows,
    returned,
    time_rows,
)
from fedlaf.report.tables import Rows

MOST = 30
"""Requests that are printed; the files have all of them."""


def show_stream(stream: Mapping[str, Any], console: Console) -> None:
    """Print what became of the requests, the times, the costs, and the model at the prefixes."""
    console.print(counts_line(stream), soft_wrap=True)
    requests, persistence = request_rows(stream), persistence_rows(stream)
    console.print(_table(requests[: MOST + 1], wide=(1, 7, 9)))
    if len(requests) > MOST + 1:
        console.print(f"... and {len(requests) - MOST - 1} more in report.md", soft_wrap=True)
    for rows in (time_rows(stream), cost_rows(stream), prefix_rows(stream), persistence[: MOST + 1]):
        if len(rows) > 1:
            console.print(_table(rows))
    for line in returned(stream):
        console.print(line, soft_wrap=True)


def show_stream_briefly(stream: Mapping[str, Any], console: Console) -> None:
    """Print what became of the requests in a line, the times, and the costs."""
    console.print(counts_line(stream), soft_wrap=True)
    for rows in (time_rows(stream), cost_rows(stream)):
        if len(rows) > 1:
            console.print(_table(rows))


def _table(rows: Rows, wide: tuple[int, ...] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, name in enumerate(rows[0]):
        left = place == 0 or place in wide
        table.add_column(name, justify="left" if left else "right", max_width=None if left else 14)
    for row in rows[1:]:
        table.add_row(*row)
    return table
