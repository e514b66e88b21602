"""What a person reads in the terminal when a run has ended."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from fedlaf.report.progress import console_on
from fedlaf.report.report import Report
from fedlaf.report.stream_console import show_stream
from fedlaf.report.summary import WIDTH, outcome, summary
from fedlaf.report.tables import show


def tell(report: Report, folder: Path, *, verbose: bool = False) -> None:
    """Print the verdict, the decisive rows and where the rest is; with `verbose` all tables."""
    if not verbose:
        return summary(report, folder, console_on(sys.stdout, WIDTH))
    console = console_on(sys.stdout, None if sys.stdout.isatty() else 100)
    if report.stream:
        show_stream(report.stream, console)
    show(report if not report.stream else replace(report, results=report.results[-1:]), console)
    console.print(f"report, weights and curves: {folder}", soft_wrap=True)


def tell_briefly(report: Report, folder: Path) -> None:
    """Print a line on each request: for one run of many."""
    for served in report.results:
        line = f"{outcome(served)}; {folder}"
        console_on(sys.stdout).print(line, soft_wrap=True, highlight=False, markup=False)
