"""FedOSD: the leaver's steepest direction that is orthogonal to what the others' gradients span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fedlaf.core.errors import require_count, require_number
from fedlaf.core.types import Weights
from fedlaf.method.contract import Roster
from fedlaf.objectives.logit_objectives import Oppose
from fedlaf.protocol.messages import Action, Part, Reply
from fedlaf.strategies.base import aggregate
from fedlaf.strategies.base.local_steps import Recovering
from fedlaf.strategies.base.phase import Phase, ServerState, Who


@dataclass(frozen=True)
class FedOsd(Recovering):
    """Pan et al., AAAI 2025.

    For `oppose_rounds` all clients send gradients, and the server goes `lr` times down the forgetting
    clients' mean gradient (by forgotten rows), made orthogonal to each remaining client's gradient and
    stretched back to its length. In each of `recover_rounds` of local training, each remaining client's
    update loses what leads back to the model that the request found, which the server keeps. Forgetting
    clients with rows that remain give gradients of both kinds, and take part in recovery.
    """

    oppose: Oppose = field(default_factory=Oppose)
    oppose_rounds: int = 10
    lr: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("oppose_rounds", self.oppose_rounds)
        require_number("lr", self.lr, above=0)

    def phases(self, roster: Roster) -> Sequence[Phase]:
        """Opposition by all, then recovery, whose models the server must see one by one."""
        oppose = self._phase("oppose", Action.OPPOSE, Who.BOTH, self.oppose, self.oppose_rounds)
        return [oppose, *self.recovery(mean=None)]

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """One step aside, or the mean of updates that do not lead back."""
        state = super().aggregate(phase, state, replies)
        if phase.action is Action.OPPOSE:
            origin = state.aux.get("origin", state.weights)
            moved = aggregate.moved(state.weights, direction(replies), -self.lr)
            return replace(state, weights=moved, aux={**state.aux, "origin": origin})
        now, origin = state.weights, state.aux["origin"]
        kept = [aggregate.closing_the_way_back(now, r.arrays[Part.MODEL], now, origin) for r in replies]
        rows = [reply.numbers["rows"] for reply in replies]
        return replace(state, weights=aggregate.weighted_mean(kept, rows))


def direction(replies: Sequence[Reply]) -> Weights:
    """The mean of the forgotten gradients, by forgotten rows, aside from all retained ones."""
    forgotten = [reply for reply in replies if Part.FORGOTTEN_GRADIENT in reply.arrays]
    rows = [reply.numbers["forgotten"] for reply in forgotten]
    mean = aggregate.weighted_mean([reply.arrays[Part.FORGOTTEN_GRADIENT] for reply in forgotten], rows)
    others = [r.arrays[Part.RETAINED_GRADIENT] for r in replies if Part.RETAINED_GRADIENT in r.arrays]
    return aggregate.aside(mean, others)
