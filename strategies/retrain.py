"""Retraining as a method: the gold standard, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from flwr.serverapp import Grid

from fedlaf.core.errors import require_count
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry, Need, Stage, StageResult
from fedlaf.strategies.base.phase import Phase, ServerState
from fedlaf.strategies.base.strategy import ForgetStrategy
from fedlaf.strategies.fedavg import FedAvg


@dataclass(frozen=True)
class Retrain(FedAvg, ForgetStrategy):
    """Federated averaging from the start weights over the rows that remain, for `rounds` rounds (None: as
    many as were trained): the retrained reference bit for bit, where `fit` and `cohort` are training's.
    """

    rounds: int | None = None  # type: ignore[assignment]

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LABELS, Need.START})

    def __post_init__(self) -> None:
        if self.rounds is not None:
            require_count("rounds", self.rounds)
        if self.cohort is not None:
            require_count("cohort", self.cohort)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Training's phase."""
        return FedAvg.phases(replace(self, rounds=self.rounds or registry.trained), registry)

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """The start weights."""
        return replace(state, weights=state.inputs.require("start"))

    def run(self, grid: Grid, weights: Weights, stage: Stage) -> StageResult:
        """As training is run: its random streams, over clients whose forgotten rows are gone."""
        return super().run(grid, weights, replace(stage, name="train", registry=stage.registry.after_request))
