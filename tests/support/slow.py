"""Training that takes its time, and says in a file where it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import sleep

from fedlaf.protocol.messages import Reply
from fedlaf.strategies.base.phase import Phase, ServerState
from fedlaf.strategies.fedavg import FedAvg

LOG, SECONDS = "SLOW_LOG", "SLOW_SECONDS"
"""Environment variables: the file that has a line a round, and how long a round takes."""


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
