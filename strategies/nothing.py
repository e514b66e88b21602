"""Doing nothing: the model stays as it is. What every method must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedlaf.core.types import Weights
from fedlaf.method.contract import Roster
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base.method import ForgetStrategy
from fedlaf.strategies.base.phase import Phase, ServerState


@dataclass(frozen=True)
class Nothing(ForgetStrategy):
    """No phase, no message, no cost."""

    def phases(self, roster: Roster) -> Sequence[Phase]:
        """None."""
        return []

    def sends(self, phase: Phase, state: ServerState) -> Mapping[Part, Weights]:
        """Nothing."""
        return {}

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The state as it is."""
        return state
