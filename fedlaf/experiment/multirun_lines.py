"""A line on each run of Hydra's own multirun as it begins: how many there are, how many ended, time left."""

from __future__ import annotations

import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf


class TellsRuns(Callback):
    """Hydra's callback around the runs of a multirun."""

    def __init__(self) -> None:
        self._job: Any = None

    def on_multirun_start(self, config: DictConfig, **more: Any) -> None:
        """Count the runs: only Hydra's own sweeper knows them beforehand."""
        from fedlaf.experiment.comparison.multirun import combinations, swept
        from fedlaf.report import Job, Lines, console_on

        asked: Any = OmegaConf.to_container(config.hydra.overrides.task)
        known = config.hydra.sweeper._target_.endswith(".BasicSweeper")
        total = len(combinations(asked)) if known else 0
        self._job = Job("multirun", total, "runs", each=True)
        self._swept = swept(asked)
        self._lines = Lines(console_on(sys.stderr))

    def on_job_start(self, config: DictConfig, **more: Any) -> None:
        """Which run begins."""
        if self._job is not None:
            from fedlaf.experiment.comparison.multirun import title

            now = title(config.hydra.overrides.task, self._swept)
            self._job.told = lambda: f"now {now}"
            self._lines.update(self._job)

    def on_job_end(self, config: DictConfig, job_return: Any, **more: Any) -> None:
        """It has ended."""
        if self._job is not None:
            self._job.done += 1

    def on_multirun_end(self, config: DictConfig, **more: Any) -> None:
        """All have."""
        if self._job is not None:
            self._job.told = lambda: str(config.hydra.sweep.dir)
            self._lines.update(self._job)
