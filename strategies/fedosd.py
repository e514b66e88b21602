"""FedOSD: the withdrawn client's steepest direction that is orthogonal to what the others' gradients span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fedlaf.core.errors import require_count, require_number
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry
from fedlaf.objectives.gradients import FedOsdGradients
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base import aggregate
from fedlaf.strategies.base.local_steps import Recovering
from fedlaf.strategies.base.phase import Phase, ServerState, Who


@dataclass(frozen=True)
class FedOsd(Recovering):
    """Pan et al., AAAI 2025.

    For `gradient_rounds` all clients send gradients, and the server goes `lr` times down the forgetting
    clients' mean gradient (by forgotten rows), made orthogonal to each remaining client's gradient and
    stretched back to its length. In each of `recover_rounds` of local training, each remaining client's
    update loses what leads back to the model that the request found, which the server keeps. Forgetting
    clients with rows that remain give gradients of both kinds, and take part in recovery.
    """

    gradients: FedOsdGradients = field(default_factory=FedOsdGradients)
    gradient_rounds: int = 10
    lr: float = 0.2
    recover_rounds: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("gradient_rounds", self.gradient_rounds)
        require_number("lr", self.lr, above=0)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Opposition by all, then recovery, whose models the server must see one by one."""
        gradients = self._phase(
            "fedosd_gradients", "fedosd_gradients", Who.BOTH, self.gradients, self.gradient_rounds
        )
        return [gradients, *self.recovery(mean=None)]

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """One orthogonal step, or the mean of updates without what points back to the trained model."""
        state = super().aggregate(phase, state, replies)
        if phase.step == "fedosd_gradients":
            origin = state.aux.get("origin", state.weights)
            moved = aggregate.moved(state.weights, direction(replies), -self.lr)
            return replace(state, weights=moved, aux={**state.aux, "origin": origin})
        now, origin = state.weights, state.aux["origin"]
        kept = [aggregate.remove_reverting_component(now, r.arrays[Part.MODEL], now, origin) for r in replies]
        rows = [reply.numbers["rows"] for reply in replies]
        return replace(state, weights=aggregate.weighted_mean(kept, rows))


def direction(replies: Sequence[Reply]) -> Weights:
    """The mean of the forgotten gradients, by forgotten rows, aside from all retained ones."""
    forget = [reply for reply in replies if Part.FORGET_GRADIENT in reply.arrays]
    rows = [reply.numbers["forget"] for reply in forget]
    mean = aggregate.weighted_mean([reply.arrays[Part.FORGET_GRADIENT] for reply in forget], rows)
    others = [r.arrays[Part.RETAIN_GRADIENT] for r in replies if Part.RETAIN_GRADIENT in r.arrays]
    return aggregate.orthogonal_to(mean, others)
