"""SalUn: random classes for forgotten rows, learned by the weights that matter to them alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fedlaf.core.errors import require_count, require_number
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry
from fedlaf.objectives import RandomLabels, Relabel, Saliency
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base import aggregate
from fedlaf.strategies.base.local_steps import LocalSteps
from fedlaf.strategies.base.phase import Phase, ServerState, Who


@dataclass(frozen=True)
class SalUn(LocalSteps):
    """Forgetting clients send the gradient of their forgotten rows' cross-entropy; the `share` of all weights
    where the sum is largest may change. Then `rounds` of local steps by everybody, averaged by the
    rows in use: forgotten rows towards a random class, remaining rows towards their label.

    Fan et al., "SalUn: Empowering machine unlearning via gradient-based weight saliency", ICLR 2024, eq. 3
    to 5.
    """

    saliency: Saliency = field(default_factory=Saliency)
    labels: RandomLabels = field(default_factory=RandomLabels)
    relabel: Relabel = field(default_factory=Relabel)
    rounds: int = 3
    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("rounds", self.rounds)
        require_number("share", self.share, above=0, at_most=1)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """The mask, the random classes, the steps."""
        return [
            self._phase("saliency", "saliency", Who.FORGET, self.saliency),
            self._phase("random_labels", "random_labels", Who.BOTH, self.labels),
            self._phase("relabel", "masked_relabel", Who.BOTH, self.relabel, self.rounds, Part.MODEL),
        ]

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """The model, and with it the mask."""
        sent = super().arrays(phase, state)
        return {**sent, Part.MASK: state.aux["mask"]} if phase.name == "relabel" else sent

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The mask; then means, in which what may not change keeps its bits: a mean is rounded."""
        if phase.name == "random_labels":
            return state
        if phase.name == "relabel":
            mean = super().aggregate(phase, state, replies).weights
            mask = state.aux["mask"]
            held = {name: np.where(mask[name], mean[name], state.weights[name]) for name in mask}
            return replace(state, weights={**mean, **held})
        gradient = aggregate.summed([reply.arrays[Part.FORGET_GRADIENT] for reply in replies])
        return replace(state, aux={**state.aux, "mask": largest(gradient, self.share)})


def largest(gradient: Weights, share: float) -> Weights:
    """Where the absolute values are among the `share` that is largest of all arrays: bool arrays."""
    sizes = np.concatenate([np.abs(array).ravel() for array in gradient.values()])
    count = max(1, round(share * len(sizes)))
    least = np.partition(sizes, len(sizes) - count)[len(sizes) - count]
    return {name: np.abs(array) >= least for name, array in gradient.items()}
