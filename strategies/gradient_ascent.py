"""Gradient ascent (NegGrad): forgetting clients train backwards, then the others repair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedlaf.core.errors import require_count
from fedlaf.method.contract import ClientRegistry
from fedlaf.objectives.logit_objectives import NegGrad
from fedlaf.protocol.messages import Part
from fedlaf.strategies.base.local_steps import Recovering
from fedlaf.strategies.base.phase import Phase, Who


@dataclass(frozen=True)
class GradientAscent(Recovering):
    """`ascend_rounds` by the forgetting clients, whose models are averaged by their forgotten rows; then
    `recover_rounds` of federated averaging by the clients with rows that remain.

    The idea is that of Golatkar et al. (CVPR 2020) and Graves et al. (AAAI 2021).
    """

    ascend: NegGrad = field(default_factory=NegGrad)
    ascend_rounds: int = 1
    recover_rounds: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("ascend_rounds", self.ascend_rounds)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Ascent, then recovery."""
        ascent = self._phase("ascend", "neggrad", Who.FORGET, self.ascend, self.ascend_rounds, Part.MODEL)
        return [ascent, *self.recovery()]
