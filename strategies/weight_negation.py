"""NoT (Khalil et al., CVPR 2025): the first layer's weights are negated, then clients fine-tune."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fedlaf.core.errors import require_count
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry
from fedlaf.strategies.base.phase import ServerState
from fedlaf.strategies.fine_tune import FineTune


@dataclass(frozen=True)
class WeightNegation(FineTune):
    """theta_l <- -theta_l for the first `layers` layers, with their biases where `biases`."""

    layers: int = 1
    biases: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("layers", self.layers)

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """The model with its first layers negated."""
        return replace(state, weights=negated(state.weights, self.layers, biases=self.biases))


def negated(weights: Weights, layers: int, *, biases: bool) -> Weights:
    """The weights with the sign of the first `layers` layers turned; a layer is what has a weight of
    at least two dimensions.
    """
    names = [name for name, array in weights.items() if name.endswith(".weight") and array.ndim >= 2]
    turned = {name.removesuffix("weight") + kind for name in names[:layers] for kind in ("weight", "bias")}
    kept = {name for name in turned if biases or name.endswith(".weight")}
    return {name: np.negative(array) if name in kept else array for name, array in weights.items()}
