"""A run that is followed by a tracker; whatever that does, the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from fedlaf.core.types import ClientId
from fedlaf.method.contract import RoundRecord
from fedlaf.report.files import FILES, write
from fedlaf.report.metrics import finals, of_round, rounds
from fedlaf.report.report import Report
from fedlaf.report.results import Point
from fedlaf.report.trackers import TrackedRun, Tracker
from fedlaf.report.watch import Watch


class Tracking(Watch):
    """Tells a tracker of each round, and `watch` of all that it is told itself.

    A tracker that raises is told nothing more: `watch` has a line on it.
    """

    def __init__(self, tracker: Tracker, run: TrackedRun, watch: Watch) -> None:
        self._tracker: Tracker | None = tracker
        self._run, self._watch = run, watch
        self._told: dict[str, int] = {}

    def __enter__(self) -> Tracking:
        self._tell(lambda tracker: tracker.start(self._run))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        if error is not None:
            self._tell(lambda tracker: tracker.stop(f"{type(error).__name__}: {error}"))

    def finish(self, report: Report, folder: Path) -> None:
        """The run has ended: write its files, and tell what was not told yet, such as stages of an earlier
        run.
        """
        write(report, folder)
        for metrics in rounds(report):
            if metrics and metrics[0].round > self._told.get(metrics[0].stage, 0):
                self._tell(lambda tracker, metrics=metrics: tracker.log(metrics))  # type: ignore[misc]
        files = [folder / name for name in FILES if (folder / name).is_file()]
        self._tell(lambda tracker: tracker.finish(finals(report), files))

    def stage(self, name: str, rounds: int, clients: int) -> None:
        """A stage begins."""
        self._watch.stage(name, rounds, clients)

    def advance(self, name: str, record: RoundRecord, point: Point | None = None) -> None:
        """A round has ended."""
        self._watch.advance(name, record, point)
        number = self._told[name] = self._told.get(name, record.round - 1) + 1
        self._tell(lambda tracker: tracker.log(of_round(name, number, record, point)))

    def measuring(self, name: str) -> None:
        """Models are measured."""
        self._watch.measuring(name)

    def note(self, line: str) -> None:
        """A line of news."""
        self._watch.note(line)

    def withdrawn(self, nodes: Mapping[ClientId, int]) -> None:
        """Clients are forgotten."""
        self._watch.withdrawn(nodes)

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            call(self._tracker)
        except Exception as error:  # whatever a library raises: tracking is not worth a run
            name, self._tracker = type(self._tracker).__name__, None
            said = str(error).strip().partition("\n")[0]
            self._watch.note(f"tracker {name} failed ({type(error).__name__}: {said}); the run goes on")
