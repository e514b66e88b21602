"""Weights & Biases: curves by round, final values in the summary, the report's files as an artefact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedlaf.core.errors import require_one_of
from fedlaf.report.metrics import Metric
from fedlaf.report.trackers.tracker import TrackedRun, Tracker, by_name, known, require_extra


@dataclass(eq=False)
class WeightsAndBiases(Tracker):
    """A run of a `project`. Offline, it is in `folder` (null: that of the run), and `wandb sync` sends it."""

    project: str = "fedlaf"
    mode: str = "offline"
    folder: str | None = None
    _run: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        require_one_of("mode", self.mode, ("offline", "online"))
        require_extra("wandb", "wandb")

    def start(self, run: TrackedRun) -> None:
        """Make the run, with configuration and provenance."""
        import wandb

        about = {"command": run.command, "method": run.method, "made_with": dict(run.made_with)}
        quiet = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True)
        self._run = wandb.init(
            project=self.project, name=run.name, dir=self.folder or str(run.folder), mode=self.mode,
            config={**run.config, "fedlaf": about}, reinit="create_new", settings=quiet,
        )  # fmt: skip

    def log(self, metrics: Sequence[Metric]) -> None:
        """Values over the rounds of their stage."""
        stage, number = metrics[0].stage, metrics[0].round
        self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/round")
        self._run.log({f"{stage}/round": number, **by_name(metrics)})

    def finish(self, finals: Mapping[str, float], files: Sequence[Path]) -> None:
        """The summary, and the files as one artefact."""
        import wandb

        self._run.summary.update(known(finals))
        artefact = wandb.Artifact(f"report-{self._run.id}", type="report")
        for file in files:
            artefact.add_file(str(file))
        self._run.log_artifact(artefact)
        self._run.finish()

    def stop(self, error: str) -> None:
        """The error in the summary of a failed run."""
        self._run.summary["error"] = error
        self._run.finish(exit_code=1)
