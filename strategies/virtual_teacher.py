"""A virtual teacher: forgotten rows are distilled from the original model with one class taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from fedlaf.core.errors import require_count
from fedlaf.method.contract import ClientRegistry
from fedlaf.objectives import DistilBoth, DistilForgotten, VirtualTeacher
from fedlaf.protocol.messages import Part
from fedlaf.strategies.bad_teacher import BadTeacher
from fedlaf.strategies.base.local_steps import Recovering
from fedlaf.strategies.base.phase import Phase, Who


@dataclass(frozen=True)
class VirtualTeaching(Recovering):
    """Forgetting clients distil their forgotten rows for `distil_rounds` from the original model, in whose
    answer the row's label has the lowest logit; their models are averaged by those rows. Then
    `recover_rounds` of federated averaging by the clients with rows that remain.

    Mora et al., "FedQUIT", 2025; with `teacher.excluded` the teacher of DELETE (Zhou et al., CVPR 2025).
    """

    teacher: VirtualTeacher = field(default_factory=VirtualTeacher)
    distil: DistilForgotten = field(default_factory=DistilForgotten)
    distil_rounds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("distil_rounds", self.distil_rounds)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """The teacher, distillation, recovery."""
        return [
            self._phase("virtual_teacher", "virtual_teacher", Who.FORGET, self.teacher),
            self._phase(
                "distil", "distil_forgotten", Who.FORGET, self.distil, self.distil_rounds, Part.MODEL
            ),
            *self.recovery(),
        ]


@dataclass(frozen=True)
class LabelFreeVirtualTeaching(BadTeacher):
    """The same without a label: the class that the original names is taken back, and remaining rows are
    held by distilling from the original, as `BadTeacher` does.
    """

    teacher: VirtualTeacher = field(default_factory=lambda: VirtualTeacher(share=0.15, labels=False))
    distil: DistilBoth = field(default_factory=lambda: DistilBoth(lr=3e-4))

    teacher_step: ClassVar[str] = "virtual_teacher"
