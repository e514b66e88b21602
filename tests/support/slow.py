"""Training that takes its time, and says in a file where it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

from fedlaf.protocol.messages import Reply
from fedlaf.strategies.base.phase import Phase, ServerState
from fedlaf.strategies.fedavg import FedAvg

LOG, SECONDS = "SLOW_LOG", "SLOW_SECONDS"
"""Environment variables: the file that has a line a round, and how long a round takes."""

SLOW = (
    "data=digits", "data.train_rows=120", "data.test_rows=40", "model=small_cnn", "corruption=none",
    "clients=2",
    "train._target_=support.slow.Slow", "train.rounds=5", "evaluation.curve_rows=10",
)  # fmt: skip
HISTORY = "history=[updates,last,magnitudes]"
"""Keys of a run of five such rounds, and of all that training can keep."""


@dataclass(frozen=True)
class Slow(FedAvg):
    """Federated averaging: the same numbers, later."""

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """As it averages, after a while."""
        if LOG in os.environ:
            with Path(os.environ[LOG]).open("a") as log:
                log.write(f"{state.round}\n")
            sleep(float(os.environ[SECONDS]))
        return super().aggregate(phase, state, replies)


def left_by_training(folder: Path) -> dict[str, Any]:
    """The arrays and indices of training, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "stages").rglob("*"))
        if (path.is_file() and path.parent.name != "stages") or path.suffix == ".safetensors"
    }
