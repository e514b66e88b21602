"""FedAccum: training's stored updates are summed up again without the leaver's.

The plain baseline of Liu et al. (FedEraser, IWQoS 2021): theta_0 + sum_t mean over the others of Delta_k^t.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fedlaf.stage import Need, Roster
from strategies.history import mean_update, moved
from strategies.phase import ServerState
from strategies.server_alone import ServerAlone


@dataclass(frozen=True)
class FedAccum(ServerAlone):
    """The start weights and each round's mean of the stored updates of whoever stays."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WHOLE, Need.UPDATES, Need.START})

    def begins(self, state: ServerState, roster: Roster) -> ServerState:
        """The sum."""
        records, weights = state.given.the("records"), state.given.the("start")
        for round_ in records.rounds:
            mean = mean_update(records, round_, roster.remaining)
            weights = weights if mean is None else moved(weights, mean)
        return replace(state, weights=weights)
