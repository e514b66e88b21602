"""What a person sees while a run goes on: one progress bar a stage, nothing when not a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fedlaf.core.types import ClientId
from fedlaf.report.report import Report
from fedlaf.report.stream_console import show_stream
from fedlaf.report.tables import show


class Watch:
    """Progress bars, one a stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def stage(self, name: str, rounds: int) -> None:
        """A stage of `rounds` rounds begins."""
        self._bars[name] = self._progress.add_task(name, total=rounds)

    def advance(self, name: str) -> None:
        """A round of the stage has ended."""
        self._progress.advance(self._bars[name])

    def note(self, line: str) -> None:
        """A line of news, above the bars."""
        self._progress.console.print(line, soft_wrap=True)

    def withdrawn(self, nodes: dict[ClientId, int]) -> None:
        """The request of these clients is served and their nodes are asked nothing more: no news here."""


@contextmanager
def watching() -> Iterator[Watch]:
    """Bars on stderr while the context lasts; off when it is not a terminal."""
    with bars() as progress:
        yield Watch(progress)


def bars() -> Progress:
    """Progress bars on stderr; what is printed above them is printed anyhow."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def tell(report: Report, folder: Path) -> None:
    """Print the tables and where the files are."""
    console = Console(width=None if Console().is_terminal else 100)
    if report.stream:
        show_stream(report.stream, console)
    show(report if not report.stream else replace(report, results=report.results[-1:]), console)
    console.print(f"report, weights and curves: {folder}", soft_wrap=True)
