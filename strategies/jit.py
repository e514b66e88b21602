"""JiT: the model is made smooth around forgotten rows, by noise on their inputs; nothing else is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from fedlaf.core.errors import require_count
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.objectives import Smooth
from fedlaf.protocol.messages import Part
from fedlaf.strategies.base.local_steps import LocalSteps
from fedlaf.strategies.base.phase import Phase, Who


@dataclass(frozen=True)
class JustInTime(LocalSteps):
    """Forgetting clients take `rounds` of smoothing steps on their forgotten rows, without labels; their
    models are averaged by those rows. Nobody else works.

    Foster et al., "Zero-shot machine unlearning at scale via Lipschitz regularization", 2024; its form for
    federations (Ferrari, NeurIPS 2024) smooths single features.
    """

    smooth: Smooth = field(default_factory=Smooth)
    rounds: int = 1

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ONLINE})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("rounds", self.rounds)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Smoothing alone."""
        return [self._phase("smooth", "smooth", Who.FORGET, self.smooth, self.rounds, Part.MODEL)]
