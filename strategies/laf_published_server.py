"""LAF with the optimiser on the server: one step a round, exact on any split of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedlaf.core.errors import require
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry
from fedlaf.protocol.messages import Part, Reply, settings_to_config
from fedlaf.strategies.base import aggregate
from fedlaf.strategies.base.densities import extractor_of, with_extractor
from fedlaf.strategies.base.phase import Phase, ServerState, Who
from fedlaf.strategies.laf_published import PublishedLaf


@dataclass(frozen=True)
class PublishedLafServer(PublishedLaf):
    """LAF with the optimiser on the server: clients send gradients of one step, the server holds
    the two Adams. Equal to the centralised algorithm on the union of the clients' batches.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        # exp(d / tau) is summed over clients as it is: 2 / tau must stay far from overflow.
        require(self.forget.temperature >= 0.05, "forget.temperature", "at least 0.05 with the "
                "optimiser on the server", self.forget.temperature)  # fmt: skip
        alternate = self.forget.updates == "alternate"
        require(
            alternate, "forget.updates", "alternate with the optimiser on the server", self.forget.updates
        )

    def forgetting(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Two rounds a step: gradients of L_UE, then, at the new weights, of L_RA."""
        forget = replace(self._with_density(self.forget), steps=self.steps(registry))
        rounds = self.forget_rounds * forget.steps * len(self._losses())
        return [self._phase("forget", "gradient", rounds, Who.BOTH, forget)]

    def _losses(self) -> list[str]:
        rates = (self.forget.lr_unlearning, self.forget.lr_alignment)
        return [n for n, r in zip(("unlearning", "alignment"), rates, strict=True) if r > 0]

    def config(self, phase: Phase, state: ServerState) -> Mapping[str, Any]:
        """The settings, with the loss and the step of this round."""
        settings = settings_to_config(phase.settings)
        if phase.step != "gradient":
            return settings
        which = self._losses()
        done = state.round - 1
        return {**settings, "loss": which[done % len(which)], "step": done // len(which)}

    def _forget(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        if phase.step != "gradient":
            return super()._forget(phase, state, replies)
        loss = str(self.config(phase, state)["loss"])
        rate = self.forget.lr_unlearning if loss == "unlearning" else self.forget.lr_alignment
        gradient = joined_gradient(replies, loss)
        now = extractor_of(state.weights)
        proposed, adam = aggregate.adam_step(now, gradient, rate, state.aux.get(loss))
        weights = with_extractor(state.weights, proposed)
        return replace(state, weights=weights, aux={**state.aux, loss: adam})


def joined_gradient(replies: Sequence[Reply], loss: str) -> Weights:
    """The gradient of a loss over the union of the clients' batches.

    L_UE: the sum of the clients'. L_RA: sum_k g_k - |B_r| (sum_k G_k) / (sum_k S_k), where G_k is
    the gradient of client k's S_k = sum_j exp(d_j / tau): the logarithm couples forgotten rows
    across clients, and only this quotient makes any split exact.
    """
    retain = aggregate.summed([reply.arrays[Part.RETAIN_GRADIENT] for reply in replies])
    forget = [r.arrays[Part.FORGET_GRADIENT] for r in replies if Part.FORGET_GRADIENT in r.arrays]
    if loss == "unlearning" or not forget:
        return retain
    mass = sum(reply.numbers["mass"] for reply in replies)
    rows = sum(reply.numbers["retain"] for reply in replies)
    weight = rows or sum(reply.numbers["forget"] for reply in replies)
    away = aggregate.summed(forget)
    return {k: retain[k] - weight * away[k] / mass for k in retain}
