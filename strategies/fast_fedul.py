"""Fast-FedUL (Huynh et al., ECML PKDD 2024): the withdrawn client's influence, taken back round by round."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedlaf.core.errors import require_number
from fedlaf.core.types import ClientId, Weights
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.method.update_history import HistorySpec, UpdateHistory
from fedlaf.strategies.base.history import mean_update, moved, share_of, with_trainable
from fedlaf.strategies.base.phase import ServerState
from fedlaf.strategies.base.server_only import ServerOnly


@dataclass(frozen=True)
class FastFedUl(ServerOnly):
    """theta_T + D_T with D_t = (1 + `alpha`) D_{t-1} + what the withdrawn clients changed in round t.

    A model that is off makes later updates off, too. The published rule lets D grow (0.05 to 0.1), from a
    Lipschitz bound; its authors' code lets it shrink (-0.07), and so do we: the others pull a model back.
    In each round, the server keeps updates of the `share` of clients whose updates are largest.
    """

    alpha: float = -0.2
    share: float = 1.0

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WHOLE, Need.UPDATES})

    def __post_init__(self) -> None:
        require_number("alpha", self.alpha, above=-1)
        require_number("share", self.share, above=0, at_most=1)

    @property
    def history_spec(self) -> HistorySpec:
        """Updates of all rounds, of the largest."""
        return replace(super().history_spec, share=self.share)

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """The model without the withdrawn clients' influence."""
        history, withdrawing = state.inputs.require("history"), registry.request.clients
        skew: Weights = {}
        for round_ in history.rounds:
            grown = {name: (1 + self.alpha) * array for name, array in skew.items()}
            skew = _sum(grown, _correction(history, round_, withdrawing, registry.retain_clients))
        return replace(state, weights=with_trainable(state.weights, moved(state.weights, skew)))


def _correction(
    history: UpdateHistory, round_: int, withdrawing: tuple[ClientId, ...], others: list[ClientId]
) -> Weights:
    """p_u (mean of the others - mean of the withdrawn clients): for equal clients, of whom one leaves,
    1/(K(K-1)) sum_{i != u} Delta_i - (1/K) Delta_u. Nothing where the withdrawn clients' are not kept.
    """
    theirs, rest = (mean_update(history, round_, side) for side in (withdrawing, others))
    if theirs is None or rest is None:
        return {}
    share = share_of(history.rows(round_), withdrawing)
    return {name: share * (rest[name] - theirs[name]) for name in rest}


def _sum(left: Weights, right: Weights) -> Weights:
    names = left.keys() | right.keys()
    return {name: np.asarray(left.get(name, 0.0) + right.get(name, 0.0)) for name in names}
