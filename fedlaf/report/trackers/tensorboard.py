"""TensorBoard: curves as scalars, configuration and report as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedlaf.report.metrics import Metric
from fedlaf.report.trackers.tracker import TrackedRun, Tracker, by_name, known, require_extra


@dataclass(eq=False)
class TensorBoard(Tracker):
    """Event files in `folder`, by run; null is the folder `tensorboard` in that of the run."""

    folder: str | None = None
    _writer: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        require_extra("tensorboard", "tensorboard")

    def start(self, run: TrackedRun) -> None:
        """Open the event file; configuration and provenance are texts."""
        from torch.utils.tensorboard import SummaryWriter

        place = Path(self.folder) / run.folder.name if self.folder else run.folder / "tensorboard"
        self._writer: Any = SummaryWriter(str(place), flush_secs=10)  # type: ignore[no-untyped-call]
        about = {"command": run.command, "method": run.method, "seed": run.seed, **run.made_with}
        self._writer.add_text("run", _block(about))
        self._writer.add_text("configuration", _block(run.config))

    def log(self, metrics: Sequence[Metric]) -> None:
        """A scalar each, at its round."""
        for name, value in by_name(metrics).items():
            self._writer.add_scalar(name, value, metrics[0].round)

    def finish(self, finals: Mapping[str, float], files: Sequence[Path]) -> None:
        """Scalars, and the report as text: TensorBoard keeps no files, so their paths are there."""
        for name, value in known(finals).items():
            self._writer.add_scalar(name, value)
        texts = [file.read_text() for file in files if file.suffix == ".md"]
        self._writer.add_text("report", "\n\n".join([*texts, *(f"- {file}" for file in files)]))
        self._writer.close()

    def stop(self, error: str) -> None:
        """The error as text."""
        self._writer.add_text("error", error)
        self._writer.close()


def _block(values: Mapping[str, Any]) -> str:
    return "\n".join(f"    {line}" for line in json.dumps(values, indent=1).splitlines())
