"""FedAccum: training's stored updates are summed up again without the leaver's.

The plain baseline of Liu et al. (FedEraser, IWQoS 2021): theta_0 + sum_t mean over the others of Delta_k^t.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fedlaf.core.errors import require_count
from fedlaf.method.contract import Need, Roster
from fedlaf.method.update_history import Keep
from fedlaf.strategies.base.history import mean_update, moved
from fedlaf.strategies.base.phase import ServerState
from fedlaf.strategies.base.server_only import ServerAlone


@dataclass(frozen=True)
class FedAccum(ServerAlone):
    """The start weights and the mean of the stored updates of whoever stays, of every `every`-th round.

    Liu et al. keep what FedEraser keeps, that is not each round.
    """

    every: int = 1

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WHOLE, Need.UPDATES, Need.START})

    def __post_init__(self) -> None:
        require_count("every", self.every)

    @property
    def keeps(self) -> Keep:
        """Updates of every so many rounds."""
        return replace(super().keeps, every=self.every)

    def begins(self, state: ServerState, roster: Roster) -> ServerState:
        """The sum."""
        records, weights = state.given.the("records"), state.given.the("start")
        for round_ in records.rounds:
            mean = mean_update(records, round_, roster.remaining)
            weights = weights if mean is None else moved(weights, mean)
        return replace(state, weights=weights)
