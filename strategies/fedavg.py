"""Federated averaging (McMahan et al., AISTATS 2017): original training and the retrained reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedlaf.core.errors import require_count
from fedlaf.core.types import Weights
from fedlaf.method.contract import Roster
from fedlaf.objectives.classification import Fit
from fedlaf.protocol.messages import Action, Part, Reply
from fedlaf.strategies.base.method import Method, check_cohort
from fedlaf.strategies.base.phase import Phase, ServerState, Who


@dataclass(frozen=True)
class FedAvg(Method):
    """`rounds` rounds of local training on a `cohort` of clients (None: all), averaged by rows."""

    rounds: int = 12
    cohort: int | None = None
    fit: Fit = field(default_factory=Fit)

    def __post_init__(self) -> None:
        require_count("rounds", self.rounds)
        if self.cohort is not None:
            require_count("cohort", self.cohort)

    def phases(self, roster: Roster) -> Sequence[Phase]:
        """One phase; a client that fails in it is left out of its round, if a quorum answers."""
        return [
            Phase(
                "train", Action.FIT, self.rounds, Who.REMAINING, self.fit, self.cohort,
                strict=False, mean=Part.MODEL,
            )
        ]  # fmt: skip

    def checked(self, roster: Roster) -> None:
        """Raise InvalidValue for a cohort larger than the federation."""
        if self.cohort is not None:
            check_cohort(self.cohort, roster)

    def until(self, rounds: int) -> FedAvg:
        """The same method, stopping after `rounds` rounds."""
        return replace(self, rounds=rounds)

    def sends(self, phase: Phase, state: ServerState) -> Mapping[Part, Weights]:
        """The whole model."""
        return {Part.MODEL: state.weights}

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The mean of the models, weighted by the rows they were trained on."""
        (mean,) = replies
        return replace(state, weights=mean.arrays[Part.MODEL])
