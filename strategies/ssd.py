"""Selective synaptic dampening: weights that matter most to forgotten rows are made smaller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from fedlaf.core.errors import require_number
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.objectives import Importance, LabelFreeImportance
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base import aggregate
from fedlaf.strategies.base.local_steps import LocalSteps
from fedlaf.strategies.base.phase import Phase, ServerState, Who


@dataclass(frozen=True)
class Ssd(LocalSteps):
    """One round: clients send how much each weight matters to their rows, as one sum a kind of rows. Where a
    weight matters to forgotten rows, on average, more than `alpha` times as much as to all rows,
    theta <- theta min(1, lambda I / I_f), with `dampening` for lambda.

    Foster, Schoepf and Brintrup, "Fast machine unlearning without retraining through selective synaptic
    dampening", AAAI 2024, eq. 5 and 6. Sums over clients give the centralised importance of the same
    batches; where clients use a share of their remaining rows, these stand for all of them.
    """

    importance: Importance = field(default_factory=Importance)
    alpha: float = 10.0
    dampening: float = 1.0

    step: ClassVar[str] = "importance"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("alpha", self.alpha, above=0)
        require_number("dampening", self.dampening, above=0)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """One round of everybody."""
        return [self._phase("importance", self.step, Who.BOTH, self.importance)]

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The dampened model."""
        retain, forget = (
            [reply.arrays[part] for reply in replies if part in reply.arrays]
            for part in (Part.RETAIN_IMPORTANCE, Part.FORGET_IMPORTANCE)
        )
        used, rows = (sum(reply.numbers[kind] for reply in replies) for kind in ("retain", "forget"))
        of_forgotten = aggregate.summed(forget)
        # Up to all rows that remain: a share of them stands for them.
        remaining = state.aux["retain_rows"]
        scaled = aggregate.summed(retain)
        whole = {name: (array * (remaining / used) + of_forgotten[name]) for name, array in scaled.items()}
        mean = {name: array / (remaining + rows) for name, array in whole.items()}
        of_forgotten = {name: array / rows for name, array in of_forgotten.items()}
        return replace(state, weights=dampened(state.weights, mean, of_forgotten, self.alpha, self.dampening))


@dataclass(frozen=True)
class LossFreeSsd(Ssd):
    """The same with an importance that needs no label: of the squared norm of logits.

    Foster et al., "Loss-free machine unlearning", ICLR 2024 tiny papers.
    """

    importance: LabelFreeImportance = field(default_factory=LabelFreeImportance)
    alpha: float = 3.0

    step: ClassVar[str] = "label_free_importance"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.ONLINE})


def dampened(weights: Weights, whole: Weights, forgotten: Weights, alpha: float, rate: float) -> Weights:
    """The weights, made smaller where `forgotten` is above `alpha` times `whole`; others stay."""
    found = dict(weights)
    for name, importance in forgotten.items():
        chosen = importance > alpha * whole[name]
        scale = np.divide(rate * whole[name], importance, out=np.ones_like(importance), where=chosen)
        found[name] = (weights[name] * np.minimum(scale, 1.0)).astype(weights[name].dtype)
    return found
