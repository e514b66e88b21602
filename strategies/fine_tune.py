"""Fine-tuning: federated averaging goes on without the forgotten rows. What many methods end with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from fedlaf.core.errors import require_count
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.strategies.base.phase import Phase
from fedlaf.strategies.base.strategy import ForgetStrategy
from fedlaf.strategies.fedavg import FedAvg


@dataclass(frozen=True)
class FineTune(FedAvg, ForgetStrategy):
    """`rounds` rounds of federated averaging over the rows that remain, from the trained model."""

    rounds: int = 2

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LABELS})

    def __post_init__(self) -> None:
        require_count("rounds", self.rounds, at_least=0)
        if self.cohort is not None:
            require_count("cohort", self.cohort)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Training's phase, by another name."""
        return [replace(phase, name="fine-tune") for phase in super().phases(registry)]
