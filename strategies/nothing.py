"""Doing nothing: the model stays as it is. What every method must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry
from fedlaf.protocol.messages import Reply
from fedlaf.strategies.base.phase import Phase, ServerState
from fedlaf.strategies.base.strategy import ForgetStrategy


@dataclass(frozen=True)
class Nothing(ForgetStrategy):
    """No phase, no message, no cost."""

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """None."""
        return []

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """Nothing."""
        return {}

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The state as it is."""
        return state
