"""How far a comparison or a multirun is: runs that ended, time left, what is at work, what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from omegaconf import DictConfig

from fedlaf.experiment.comparison.plan import Run
from fedlaf.experiment.comparison.runs import Done, Runner, Submit
from fedlaf.report import Job, Lines

SHOWN = 2
"""Runs at work that a line names."""


class RunsProgress:
    """One line for all runs, and one for each run that failed; `runner` is what is watched."""

    def __init__(
        self, title: str, total: int, runner: Runner, shown: Lines, named: Callable[[Run], str] | None = None
    ) -> None:
        self._runner, self._shown, self._named = runner, shown, named or in_words
        self.elsewhere = runner.elsewhere
        self._at_work: dict[str, Future[Done]] = {}
        self._failed = 0
        self._job = Job(title, total, "runs", self._told, each=True)
        shown.begin(self._job)

    @contextmanager
    def started(self) -> Iterator[Submit]:
        """As the runner's own, with an eye on what is submitted."""
        with self._runner.started() as submit:

            def watched(run: Run, config: DictConfig) -> Future[Done]:
                future = self._at_work[self._named(run)] = submit(run, config)
                return future

            yield watched

    def ended(self, done: Done) -> None:
        """A run ended, or was there already."""
        name = self._named(done.run)
        self._job.done += 1
        self._job.kept += self._at_work.pop(name, None) is None
        self._failed += bool(done.error)
        if done.error:
            self._shown.line(f"{name}: {done.error}")
        self._shown.update(self._job)

    def say(self, line: str) -> None:
        """What lies in the way of a run."""
        self._shown.line(line)

    def _told(self) -> str:
        # A cluster does not tell which of its tasks have begun.
        begun = [name for name, future in self._at_work.items() if future.running()]
        waiting = len(self._at_work) - len(begun)
        now = [*begun[:SHOWN], *([f"and {len(begun) - SHOWN} more"] if len(begun) > SHOWN else [])]
        work = f"now {'; '.join(now)}" if begun else f"{waiting} submitted" if waiting else ""
        failed = f"{self._failed} failed" if self._failed else ""
        return ", ".join(filter(None, (failed, work)))


def in_words(run: Run) -> str:
    """Setting, method and seed, as far as there are any."""
    return ", ".join(filter(None, (run.setting, run.method, f"seed {run.seed}")))
