"""What a method is made of: phases as data, and a pure aggregation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, ClassVar

from fedlaf.core.errors import require
from fedlaf.core.types import ClientId, Weights
from fedlaf.method.contract import ClientRegistry, Finding, Need, RoundRecord
from fedlaf.method.update_history import HistorySpec
from fedlaf.objectives import Fit
from fedlaf.protocol.messages import Reply, settings_to_config
from fedlaf.strategies.base.phase import Phase, ServerState


class PhasedMethod(ABC):
    """A training or forgetting method as phases; `fedlaf.strategies.base.rounds` runs it."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    @property
    def history_spec(self) -> HistorySpec:
        """What training must keep for the method."""
        kept = (need in self.needs for need in (Need.LAST, Need.MAGNITUDES, Need.MODELS))
        return HistorySpec(int(Need.UPDATES in self.needs), 1.0, *kept)

    @abstractmethod
    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """The phases, in order."""

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """The state before the first phase: what the server does alone. Pure."""
        return state

    def select_clients(self, phase: Phase, state: ServerState, clients: list[ClientId]) -> list[ClientId]:
        """Which of the sampled `clients` the next round of `phase` asks; by default all of them."""
        return clients

    @abstractmethod
    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """The arrays that go to each client in the next round of `phase`."""

    def config(self, phase: Phase, state: ServerState) -> Mapping[str, Any]:
        """The settings that go along; by default those of the phase."""
        return settings_to_config(phase.settings)

    @abstractmethod
    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The state after a round, from replies in partition order. Pure."""

    def findings(self, records: Sequence[RoundRecord]) -> Sequence[Finding]:
        """What the last of `records` shows to be wrong; a fatal finding stops the stage."""
        return ()

    def total_rounds(self, registry: ClientRegistry) -> int:
        """Rounds over all phases."""
        return sum(phase.rounds for phase in self.phases(registry))

    def client_steps(self, registry: ClientRegistry) -> frozenset[str]:
        """Names of the client steps that its phases call."""
        return frozenset(phase.step for phase in self.phases(registry))

    def limits(self, registry: ClientRegistry) -> Sequence[Finding]:
        """What the method cannot do for the registry's request, known beforehand; by default nothing."""
        return ()

    def check(self, registry: ClientRegistry) -> None:
        """Raise InvalidValue when the method cannot serve the registry's request."""
        clients = len(registry.sizes)
        for phase in self.phases(registry):
            require(is_dataclass(phase.settings), phase.name, "a section of settings", phase.settings)
            fits = phase.cohort is None or phase.cohort <= clients
            require(fits, "cohort", f"at most the {clients} clients of the federation", phase.cohort)
            if isinstance(phase.settings, Fit) and 0 < phase.settings.labels < 1:
                share = phase.settings.labels
                some = any(round(share * registry.retain_rows(k)) > 0 for k in registry.retain_clients)
                expected = "a share that is at least one labelled row of a client"
                require(some, f"{phase.name}.labels", expected, share)
