"""What a person reads in the terminal when a run has ended."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from fedlaf.report.report import Report
from fedlaf.report.summary import WIDTH, outcome, summary
from fedlaf.report.tables import show


def tell(report: Report, folder: Path, *, verbose: bool = False) -> None:
    """Print the verdict, the decisive rows and where the rest is; with `verbose` all tables."""
    # A terminal that cannot move its cursor has no colours either.
    plain = os.environ.get("TERM") == "dumb"
    if not verbose:
        return summary(report, folder, Console(width=WIDTH, no_color=plain or None))
    console = Console(width=None if Console().is_terminal else 100, no_color=plain or None)
    show(report, console)
    console.print(f"report, weights and curves: {folder}", soft_wrap=True)


def tell_briefly(report: Report, folder: Path) -> None:
    """Print a line on each request: for one run of many."""
    for served in report.results:
        Console().print(f"{outcome(served)}; {folder}", soft_wrap=True, highlight=False, markup=False)
