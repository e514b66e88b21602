"""ConDa (Chundawat et al., 2024): dampens weights to which the withdrawn client contributed most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from fedlaf.core.errors import require_number
from fedlaf.core.types import Weights
from fedlaf.core.weights import is_trainable
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.strategies.base.phase import ServerState
from fedlaf.strategies.base.server_only import ServerOnly


@dataclass(frozen=True)
class ConDa(ServerOnly):
    """theta_i <- beta_i theta_i where rho_i < `cutoff`, with beta_i = min(`dampening` * rho_i, `most`)."""

    cutoff: float = 0.7
    dampening: float = 1.5
    most: float = 1.0

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WHOLE, Need.MAGNITUDES})

    def __post_init__(self) -> None:
        require_number("cutoff", self.cutoff, at_least=0)
        require_number("dampening", self.dampening, at_least=0)
        require_number("most", self.most, at_least=0)

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """The dampened model."""
        whole: Weights = {}
        theirs: Weights = {}
        count = withdrawing = 0
        for client, magnitude in state.inputs.require("history").magnitudes():
            count += 1
            whole = _plus(whole, magnitude)
            if client in registry.request.rows:
                withdrawing += 1
                theirs = _plus(theirs, magnitude)
        if not theirs:  # the withdrawing clients took part in no round
            return state
        # Both are means over clients that trained: who never took part contributed nothing to either.
        of_all, of_them = (
            {k: v / n for k, v in s.items()} for s, n in ((whole, count), (theirs, withdrawing))
        )
        return replace(state, weights=self.dampened(state.weights, of_all, of_them))

    def dampened(self, weights: Weights, of_all: Weights, of_them: Weights) -> Weights:
        """The weights, given the mean contribution C of all clients and of the withdrawn clients to each."""
        result = dict(weights)
        for name, array in weights.items():
            if not is_trainable(name, array):
                continue
            none = of_them[name] == 0
            rho = np.where(none, np.inf, of_all[name] / np.where(none, 1.0, of_them[name]))
            beta = np.where(rho < self.cutoff, np.minimum(self.dampening * rho, self.most), 1.0)
            result[name] = (array * beta).astype(array.dtype)
        return result


def _plus(total: Weights, more: Weights) -> Weights:
    return {k: np.asarray(total.get(k, 0.0) + v.astype(np.float64)) for k, v in more.items()}
