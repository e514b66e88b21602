"""Progress on stderr, a line a stage or a comparison: with a bar on a terminal, else as plain text."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from fedlaf.method.contract import RoundRecord
from fedlaf.report.results import Point
from fedlaf.report.watch import Watch

EVERY = 30.0
"""Seconds after which plain text says again how far a stage is."""

LOG = logging.getLogger("fedlaf")


@dataclass
class Job:
    """So many rounds or runs; `told` gives what else there is to say of it now.

    With `each`, plain text has a line for each that ends; `kept` counts those that took no time.
    """

    title: str
    total: int
    unit: str
    told: Callable[[], str] = str
    each: bool = False
    done: int = 0
    kept: int = 0
    began: float = field(default_factory=lambda: monotonic())  # noqa: PLW0108 (tests have a clock of theirs)
    seconds: float | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is left of it."""
        return 0 < self.total <= self.done or self.seconds is not None

    def state(self) -> str:
        """How far it is, what else is said of it, and the time that is left or that it took."""
        spent, made = monotonic() - self.began, self.done - self.kept
        count = f"{self.done}/{self.total} {self.unit}" if self.total else ""
        time = f"{clock(spent / made * (self.total - self.done))} left" if made and self.total else ""
        if self.over:
            self.seconds = spent if self.seconds is None else self.seconds
            time = clock(self.seconds)
        return ", ".join(filter(None, (count, time, self.told())))


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Lines:
    """Plain text: no bars, no colour, no control codes; without a console, in the log alone."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._said = 0.0

    def begin(self, job: Job) -> None:
        """A job begins."""
        self._said = monotonic()

    def update(self, job: Job) -> None:
        """Something of it has ended: say so now, or when enough time has passed."""
        if job.over or job.each or monotonic() - self._said >= EVERY:
            self._said = monotonic()
            self.line(f"{job.title}: {job.state()}")

    def line(self, text: str) -> None:
        """Print a line, and have it in the log."""
        LOG.info(text)
        if self._console is not None:
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)


class Bars(Lines):
    """Bars on a terminal; lines are printed above them."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        columns = (TextColumn("{task.description:<10}", markup=False), BarColumn(18), _State())
        self.progress = Progress(*columns, console=console)
        self._bars: dict[int, TaskID] = {}

    def begin(self, job: Job) -> None:
        """A bar for the job."""
        self._bars[id(job)] = self.progress.add_task(job.title, total=job.total or None, job=job)

    def update(self, job: Job) -> None:
        """Draw it as far as it is."""
        done, total = (job.done, job.total) if job.total else (1, 1)
        self.progress.update(self._bars[id(job)], completed=done, total=total)
        if job.over:
            LOG.info("%s: %s", job.title, job.state())


class _State(ProgressColumn):
    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        return Text(task.fields["job"].state(), no_wrap=True, overflow="ellipsis")


def console_on(stream: TextIO, width: int | None = None) -> Console:
    """A console on the stream; plain text where that is no terminal, or one that cannot move its cursor, or
    where the user has set NO_COLOR.
    """
    console = Console(file=stream, width=width)
    if console.is_terminal and not console.is_dumb_terminal and not os.environ.get("NO_COLOR"):
        return console
    return Console(file=stream, width=width, force_terminal=False)


@contextmanager
def display(screen: TextIO | None = None) -> Iterator[Lines]:
    """Where progress is shown while the context lasts: on `screen`, or stderr."""
    console = console_on(screen or sys.stderr)
    if not console.is_terminal:
        yield Lines(console)
        return
    bars = Bars(console)
    with bars.progress:
        yield bars


class StageProgress(Watch):
    """Shows each stage of a run with its rounds, clients and the time that is left."""

    def __init__(self, shown: Lines) -> None:
        self._shown = shown
        self._jobs: dict[str, Job] = {}
        self._clients: dict[str, int] = {}

    def stage(self, name: str, rounds: int, clients: int) -> None:
        """A line for the stage."""
        self._clients[name] = clients
        self._begin(Job(name, rounds, "rounds", lambda: f"{clients} clients"))

    def advance(self, name: str, record: RoundRecord, point: Point | None = None) -> None:
        """One round further, with the clients that it asked and those that failed."""
        job, asked, failed = self._jobs[name], len(record.asked), len(record.failed)
        among = f"{asked} of {self._clients[name]} clients" + (f", {failed} failed" if failed else "")
        job.told = lambda: among
        job.done += 1
        self._shown.update(job)

    def measuring(self, name: str) -> None:
        """A line while models are measured."""
        self._begin(Job(f"measures of {name}", 0, ""))

    def note(self, line: str) -> None:
        """The line, above the bars."""
        self._shown.line(line)

    def close(self) -> None:
        """Nothing more comes."""
        for job in self._jobs.values():
            if not job.over:
                job.seconds = monotonic() - job.began
                self._shown.update(job)

    def _begin(self, job: Job) -> None:
        self.close()
        self._jobs[job.title] = job
        self._shown.begin(job)


@contextmanager
def watching(screen: TextIO | None = None) -> Iterator[StageProgress]:
    """Progress of a run's stages while the context lasts, on `screen` or stderr."""
    with display(screen) as shown:
        watch = StageProgress(shown)
        try:
            yield watch
        finally:
            watch.close()
