"""What follows a run. A tracker of one's own is a class with any of these methods, named in conf/tracker/."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from fedlaf.core.errors import require
from fedlaf.report.metrics import Metric


@dataclass(frozen=True)
class TrackedRun:
    """What is known of a run before it starts: `made_with` has versions, and hashes of source and data."""

    folder: Path
    method: str
    seed: int
    command: str
    config: Mapping[str, Any]
    made_with: Mapping[str, str]

    @property
    def name(self) -> str:
        """Method, seed and folder, as a title."""
        return f"{self.method}, seed {self.seed}, {self.folder.name}"

    def flat(self) -> dict[str, Any]:
        """The configuration by dotted key."""
        return dict(_flat(self.config))


class Tracker:
    """Told of a run in this order: `start`, `log` for each round, then `finish`, or `stop` if it failed.

    This one does nothing. What a tracker raises costs the run nothing but the tracker.
    """

    def start(self, run: TrackedRun) -> None:
        """The run starts."""

    def log(self, metrics: Sequence[Metric]) -> None:
        """The metrics of one round of one stage."""

    def finish(self, finals: Mapping[str, float], files: Sequence[Path]) -> None:
        """The run has ended: final/REQUEST/MODEL/NAME of each measure and cost, and the report's files."""

    def stop(self, error: str) -> None:
        """The run has failed."""


def require_extra(module: str, extra: str) -> None:
    """Raise InvalidValue where the library of an optional extra is not installed."""
    there = importlib.util.find_spec(module) is not None
    require(there, "_target_", f"{module} to be installed: pip install 'fedlaf[{extra}]'", None)


def known(values: Mapping[str, float]) -> dict[str, float]:
    """Those that are numbers: libraries draw no NaN."""
    return {name: value for name, value in values.items() if isfinite(value)}


def by_name(metrics: Sequence[Metric]) -> dict[str, float]:
    """The numbers of a round as STAGE/NAME."""
    return known({f"{metric.stage}/{metric.name}": metric.value for metric in metrics})


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, held in value.items():
        yield from _flat(held, f"{key}.{name}" if key else str(name))
