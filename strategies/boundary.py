"""Boundary shrink: forgotten rows are taught the nearest wrong class, then the others repair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedlaf.core.errors import require_count
from fedlaf.method.contract import ClientRegistry
from fedlaf.objectives.logit_objectives import Shrink
from fedlaf.objectives.teachers import AdversarialRelabel
from fedlaf.protocol.messages import Part
from fedlaf.strategies.base.local_steps import Recovering
from fedlaf.strategies.base.phase import Phase, Who


@dataclass(frozen=True)
class Boundary(Recovering):
    """Forgetting clients find the nearest wrong class of each forgotten row with the original model, and
    train on it for `shrink_rounds`; their models are averaged by their forgotten rows. Then
    `recover_rounds` of federated averaging by the clients with rows that remain.

    Chen et al., "Boundary Unlearning", CVPR 2023, which stops before recovery.
    """

    relabel: AdversarialRelabel = field(default_factory=AdversarialRelabel)
    shrink: Shrink = field(default_factory=Shrink)
    shrink_rounds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("shrink_rounds", self.shrink_rounds)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """The crossing, the shrinking, recovery."""
        return [
            self._phase("adversarial_relabel", "adversarial_relabel", Who.FORGET, self.relabel),
            self._phase("shrink", "shrink", Who.FORGET, self.shrink, self.shrink_rounds, Part.MODEL),
            *self.recovery(),
        ]
