"""MLflow: parameters, tags, metrics by round, and the report's files as artefacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

from fedlaf.report.metrics import Metric
from fedlaf.report.trackers.tracker import TrackedRun, Tracker, by_name, known, require_extra

MOST = 100
"""Parameters, or metrics, that MLflow takes at once."""
LONGEST = 6000
"""Characters of a parameter."""


@dataclass(eq=False)
class MLflow(Tracker):
    """A run of an `experiment`; `uri` null is MLFLOW_TRACKING_URI, else MLflow's local store."""

    uri: str | None = None
    experiment: str = "fedlaf"
    _client: Any = field(default=None, init=False)
    _id: str = field(default="", init=False)

    def __post_init__(self) -> None:
        require_extra("mlflow", "mlflow")

    def start(self, run: TrackedRun) -> None:
        """Make the run, in the experiment of that name; configuration is parameters, provenance tags."""
        from mlflow import MlflowClient
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        self._client = MlflowClient(self.uri)
        with suppress(MlflowException):  # it is there, or another run has just made it
            self._client.create_experiment(self.experiment)
        place = self._client.get_experiment_by_name(self.experiment).experiment_id
        tags = {"method": run.method, "seed": str(run.seed), "command": run.command, **run.made_with}
        self._id = self._client.create_run(place, tags=tags, run_name=run.name).info.run_id
        given = [Param(key, str(value)[:LONGEST]) for key, value in run.flat().items()]
        for start in range(0, len(given), MOST):
            self._client.log_batch(self._id, params=given[start : start + MOST])

    def log(self, metrics: Sequence[Metric]) -> None:
        """A metric each, with its round as the step."""
        self._log(by_name(metrics), metrics[0].round)

    def finish(self, finals: Mapping[str, float], files: Sequence[Path]) -> None:
        """Metrics, and the files as artefacts."""
        self._log(known(finals), 0)
        for file in files:
            self._client.log_artifact(self._id, str(file))
        self._client.set_terminated(self._id, "FINISHED")

    def stop(self, error: str) -> None:
        """The error as a tag of a failed run."""
        self._client.set_tag(self._id, "error", error)
        self._client.set_terminated(self._id, "FAILED")

    def _log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric as Logged

        now = int(time() * 1000)
        found = [Logged(name, value, now, step) for name, value in values.items()]
        for start in range(0, len(found), MOST):
            self._client.log_batch(self._id, metrics=found[start : start + MOST])
