"""Federated averaging under another name: what methods that end in it are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedlaf.method.contract import ClientRegistry
from fedlaf.strategies.base.phase import Phase
from fedlaf.strategies.fedavg import FedAvg


@dataclass(frozen=True)
class AveragedAs(FedAvg):
    """Federated averaging whose phase is called `phase`: the name is part of the random streams."""

    phase: str = "train"

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        return [replace(phase, name=self.phase) for phase in super().phases(registry)]
