"""FedAccum: training's stored updates are summed up again without the withdrawn client's.

The plain baseline of Liu et al. (FedEraser, IWQoS 2021): theta_0 + sum_t mean over the others of Delta_k^t.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fedlaf.core.errors import require_count
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.method.update_history import HistorySpec
from fedlaf.strategies.base.history import mean_update, moved, with_trainable
from fedlaf.strategies.base.phase import ServerState
from fedlaf.strategies.base.server_only import ServerOnly


@dataclass(frozen=True)
class FedAccum(ServerOnly):
    """The start weights and the mean of the stored updates of whoever stays, of every `every`-th round.

    Liu et al. keep what FedEraser keeps, that is not each round.
    """

    every: int = 1

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WHOLE, Need.UPDATES, Need.START})

    def __post_init__(self) -> None:
        require_count("every", self.every)

    @property
    def history_spec(self) -> HistorySpec:
        """Updates of every so many rounds."""
        return replace(super().history_spec, every=self.every)

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """The sum."""
        history, weights = state.inputs.require("history"), state.inputs.require("start")
        for round_ in history.rounds:
            mean = mean_update(history, round_, registry.retain_clients)
            weights = weights if mean is None else moved(weights, mean)
        return replace(state, weights=with_trainable(state.weights, weights))
