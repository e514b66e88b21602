"""Federated averaging (McMahan et al., AISTATS 2017): original training and the retrained reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedlaf.core.errors import require_count
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry
from fedlaf.objectives.classification import Fit
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base.phase import Phase, ServerState, Who
from fedlaf.strategies.base.strategy import TrainStrategy


@dataclass(frozen=True)
class FedAvg(TrainStrategy):
    """`rounds` rounds of local training on a `cohort` of clients (None: all), averaged by rows."""

    rounds: int = 16
    cohort: int | None = None
    fit: Fit = field(default_factory=lambda: Fit(lr=3e-3))

    def __post_init__(self) -> None:
        require_count("rounds", self.rounds)
        if self.cohort is not None:
            require_count("cohort", self.cohort)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """One phase; a client that fails in it is left out of its round, if a quorum answers."""
        return [
            Phase(
                "train", "fit", self.rounds, Who.RETAIN, self.fit, self.cohort,
                strict=False, mean=Part.MODEL,
            )
        ]  # fmt: skip

    def until(self, rounds: int) -> FedAvg:
        """The same method, stopping after `rounds` rounds."""
        return replace(self, rounds=rounds)

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """The whole model."""
        return {Part.MODEL: state.weights}

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The mean of the models, weighted by the rows they were trained on."""
        (mean,) = replies
        return replace(state, weights=mean.arrays[Part.MODEL])
