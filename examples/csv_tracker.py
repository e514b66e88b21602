"""A tracker of one's own: a table of all rounds, and one of what the models came to.

From this repository's folder:

    PYTHONPATH=examples fedlaf --config-dir examples/conf tracker=csv
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedlaf.report import Metric, TrackedRun, Tracker


@dataclass(eq=False)
class CsvTracker(Tracker):
    """Writes rounds.csv and finals.csv into the run's folder."""

    delimiter: str = ","
    _folder: Path = field(default=Path(), init=False)

    def start(self, run: TrackedRun) -> None:
        """Begin the table of rounds."""
        self._folder = run.folder
        self._add("rounds.csv", [("stage", "round", "name", "value", "unit")])

    def log(self, metrics: Sequence[Metric]) -> None:
        """A row a metric."""
        self._add("rounds.csv", [(m.stage, m.round, m.name, m.value, m.unit) for m in metrics])

    def finish(self, finals: Mapping[str, float], files: Sequence[Path]) -> None:
        """The second table."""
        self._add("finals.csv", list(finals.items()))

    def _add(self, name: str, rows: Sequence[tuple[object, ...]]) -> None:
        with (self._folder / name).open("a", newline="") as file:
            csv.writer(file, delimiter=self.delimiter).writerows(rows)
