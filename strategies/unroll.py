"""Unrolling: what training's first pass over forgotten rows took from the start weights is added back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from fedlaf.core.errors import require_number
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.objectives.gradients import Unroll
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base import aggregate
from fedlaf.strategies.base.local_steps import LocalSteps
from fedlaf.strategies.base.phase import Phase, ServerState, Who


@dataclass(frozen=True)
class SingleGradient(LocalSteps):
    """theta_T + eta sum_k (n_k / n) sum over batches of client k's forgotten rows of grad L(theta_0).

    Thudi et al., "Unrolling SGD", EuroS&P 2022, eq. 6, with federated averaging's weight of a client:
    its n_k of all n rows that are not gone. One round; only forgetting clients work.
    """

    unroll: Unroll = field(default_factory=Unroll)
    eta: float = 0.2

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ONLINE, Need.LABELS, Need.START})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("eta", self.eta, above=0)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """One round."""
        whole = sum(registry.sizes[k] - len(registry.removed.of(k)) for k in registry.sizes)
        settings = replace(self.unroll, whole=whole)
        return [self._phase("unroll", "unroll", Who.FORGET, settings)]

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """The start weights, and only those."""
        return {Part.MODEL: state.inputs.require("start")}

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The clients' weighted gradients, added."""
        gradient = aggregate.summed([reply.arrays[Part.FORGET_GRADIENT] for reply in replies])
        return replace(state, weights=aggregate.moved(state.weights, gradient, self.eta))
