"""Training that takes its time, and says in a file where it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from fedlaf.experiment import interruption
from fedlaf.protocol.messages import Reply
from fedlaf.strategies.base.phase import Phase, ServerState
from fedlaf.strategies.fedavg import FedAvg

LOG, SECONDS, HELD = "SLOW_LOG", "SLOW_SECONDS", "SLOW_HELD"
"""Environment variables: the file that has a line a round, how long a round takes, and the number of lines
after which a round lasts until its run is asked to end."""

SLOW = (
    "data=digits", "data.train_rows=120", "data.test_rows=40", "model=small_cnn", "corruption=none",
    "clients=2",
    "train._target_=support.slow.Slow", "train.rounds=5", "evaluation.curve_rows=10",
)  # fmt: skip
HISTORY = "history=[updates,last,magnitudes,models]"
"""Keys of a run of five such rounds, and of all that training can keep."""


@dataclass(frozen=True)
class Slow(FedAvg):
    """Federated averaging: the same numbers, later."""

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """As it averages, after a while."""
        if LOG in os.environ:
            with Path(os.environ[LOG]).open("a") as log:
                log.write(f"{state.round}\n")
            sleep(float(os.environ.get(SECONDS, "0")))
            until = monotonic() + 120
            while _lines() == int(os.environ.get(HELD, "0")) and not interruption.requested():
                assert monotonic() < until
                sleep(0.01)
        return super().aggregate(phase, state, replies)


def _lines() -> int:
    return len(Path(os.environ[LOG]).read_text().splitlines())


def left_by_training(folder: Path) -> dict[str, Any]:
    """The arrays and indices of training, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "stages").rglob("*"))
        if (path.is_file() and path.parent.name != "stages") or path.suffix == ".safetensors"
    }
