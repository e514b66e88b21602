"""What a method is: phases as data, and a pure aggregation. `fedlaf.strategies.base.rounds` runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flwr.serverapp import Grid

from fedlaf.core.errors import require
from fedlaf.core.types import ClientId, Weights
from fedlaf.method.contract import Finding, Need, Outcome, Roster, RoundRecord, Stage
from fedlaf.method.update_history import Keep
from fedlaf.protocol.messages import Part, Reply, settings_to_config
from fedlaf.strategies.base.phase import Phase, ServerState
from fedlaf.strategies.base.rounds import Rounds


class Method(ABC):
    """A training or forgetting method."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    @property
    def keeps(self) -> Keep:
        """What training must keep for it."""
        every = int(Need.UPDATES in self.needs)
        return Keep(every, last=Need.LAST in self.needs, magnitudes=Need.MAGNITUDES in self.needs)

    @abstractmethod
    def phases(self, roster: Roster) -> Sequence[Phase]:
        """The phases, in order."""

    def begins(self, state: ServerState, roster: Roster) -> ServerState:
        """The state before the first phase: what the server does alone. Pure."""
        return state

    def asks(self, phase: Phase, state: ServerState, clients: list[ClientId]) -> list[ClientId]:
        """Which of the `clients` that the next round of `phase` could ask are asked; by default all."""
        return clients

    @abstractmethod
    def sends(self, phase: Phase, state: ServerState) -> Mapping[Part, Weights]:
        """The arrays that go to each client in the next round of `phase`."""

    def tells(self, phase: Phase, state: ServerState) -> Mapping[str, Any]:
        """The settings that go along; by default those of the phase."""
        return settings_to_config(phase.settings)

    @abstractmethod
    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The state after a round, from replies in partition order. Pure."""

    def findings(self, records: Sequence[RoundRecord]) -> Sequence[Finding]:
        """What the last of `records` shows to be wrong; a fatal finding stops the stage."""
        return ()

    def total_rounds(self, roster: Roster) -> int:
        """Rounds over all phases."""
        return sum(phase.rounds for phase in self.phases(roster))

    def checked(self, roster: Roster) -> None:  # noqa: B027
        """Raise InvalidValue when the method cannot serve the roster's request."""

    def run(self, grid: Grid, weights: Weights, stage: Stage) -> Outcome:
        """Run all phases by Flower's own loop. Raises RoundFailed."""
        return Rounds(self, weights, stage).run(grid)


class ForgetStrategy(Method):
    """A method that serves a `ForgetRequest`, starting from the trained model."""


def check_cohort(cohort: int, roster: Roster) -> None:
    """Raise InvalidValue for a cohort larger than the federation."""
    clients = len(roster.sizes)
    require(cohort <= clients, "cohort", f"at most the {clients} clients of the federation", cohort)
