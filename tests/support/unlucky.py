"""Methods whose runs meet with misfortune."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from time import sleep

import ray
from flwr.serverapp import Grid

from fedlaf.core.types import Weights
from fedlaf.method.contract import Stage, StageResult
from fedlaf.strategies.laf_adam import LafAdam


@dataclass(frozen=True)
class Unlucky(LafAdam):
    """LAF whose process is killed in its first `deaths` attempts; `log` names the node of each."""

    log: str = ""
    deaths: int = 0
    seconds: float = 0.0

    def run(self, grid: Grid, weights: Weights, stage: Stage) -> StageResult:
        """As LAF runs, if it lives."""
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
        with Path(self.log).open("a") as log:
            log.write(f"attempt on {node}\n")
        sleep(self.seconds)
        if len(Path(self.log).read_text().splitlines()) <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(grid, weights, stage)
