"""FUSED: remaining clients train a sparse update of a frozen model, which can be taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from fedlaf.core.errors import require_count, require_number
from fedlaf.core.seeding import numpy_stream
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.objectives import Fit, SparseFit
from fedlaf.protocol.messages import Part, Reply
from fedlaf.protocol.sparse_updates import packed, updated
from fedlaf.strategies.base import aggregate
from fedlaf.strategies.base.local_steps import LocalSteps
from fedlaf.strategies.base.phase import Phase, ServerState, Who


@dataclass(frozen=True)
class Fused(LocalSteps):
    """One round of federated averaging without the forgotten rows shows which layers change most, by the mean
    absolute change of their weights; it is thrown away. Of the first `layers` of them a random `share` of the
    weights may get an update, which the clients with remaining rows train for `rounds` rounds. Only it
    crosses the wire; the model below it keeps its bits, so that the request can be taken back.

    Zhong et al., "Unlearning through knowledge overwriting: reversible federated unlearning via selective
    sparse adapter", CVPR 2025.
    """

    rank: Fit = field(default_factory=Fit)
    fit: SparseFit = field(default_factory=SparseFit)
    rounds: int = 3
    layers: int = 2
    share: float = 0.1

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LABELS})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("rounds", self.rounds)
        require_count("layers", self.layers)
        require_number("share", self.share, above=0, at_most=1)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """The round that shows layers, then the update."""
        return [
            self._phase("rank", "fit_and_keep", Who.RETAIN, self.rank, mean=Part.MODEL),
            self._phase("overwrite", "sparse_fit", Who.RETAIN, self.fit, self.rounds),
        ]

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """The model; then what of it may change, and the update so far."""
        if phase.name == "rank":
            return super().arrays(phase, state)
        return {Part.MASK: packed(state.aux["mask"]), Part.UPDATE: state.aux["update"]}

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The mask; then mean updates, on the model that there was."""
        if phase.name == "rank":
            trained = super().aggregate(phase, state, replies).weights
            chosen = most_changed(state.weights, trained, self.layers)
            stream = numpy_stream(state.aux["seed"], state.aux["stage"], "sparse update")
            mask = {name: stream.random(state.weights[name].shape) < self.share for name in chosen}
            nothing = {
                name: np.zeros(int(where.sum()), state.weights[name].dtype) for name, where in mask.items()
            }
            return replace(state, aux={**state.aux, "base": state.weights, "mask": mask, "update": nothing})
        rows = [reply.numbers["rows"] for reply in replies]
        mean = aggregate.weighted_mean([reply.arrays[Part.UPDATE] for reply in replies], rows)
        weights = updated(state.aux["base"], state.aux["mask"], mean)
        return replace(state, weights=weights, aux={**state.aux, "update": mean})


def most_changed(before: Weights, after: Weights, count: int) -> list[str]:
    """The weights of the `count` layers whose mean absolute change is largest, that first; a layer is what
    has a weight of at least two dimensions.
    """
    changes = {
        name: float(np.abs(after[name].astype(np.float64) - array).mean())
        for name, array in before.items()
        if name.endswith(".weight") and array.ndim >= 2
    }
    return sorted(changes, key=lambda name: -changes[name])[:count]
