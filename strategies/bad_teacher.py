"""Bad teacher: on forgotten rows the model learns from one that knows nothing, elsewhere from itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from fedlaf.core.errors import require_count, require_number
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.objectives.logit_objectives import DistilBoth
from fedlaf.objectives.teachers import RandomTeacherLogits, TeacherLogits
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base.densities import joined
from fedlaf.strategies.base.local_steps import LocalSteps
from fedlaf.strategies.base.phase import Phase, ServerState, Who


@dataclass(frozen=True)
class BadTeacher(LocalSteps):
    """`rounds` in which all clients distil: forgotten rows from a randomly initialised model, remaining ones
    from the original. Forgetting clients weigh `forget_share` in all, by forgotten rows; the others
    the rest, by remaining rows in use. No label is read.

    Chundawat et al., "Can Bad Teaching Induce Forgetting?", AAAI 2023.
    """

    teacher: TeacherLogits = field(default_factory=RandomTeacherLogits)
    distil: DistilBoth = field(default_factory=DistilBoth)
    rounds: int = 10
    forget_share: float = 0.3

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ONLINE})
    teacher_step: ClassVar[str] = "random_teacher_logits"
    distil_step: ClassVar[str] = "distil"
    part: ClassVar[str] = Part.MODEL
    """The client steps, and the part of the model that learns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("rounds", self.rounds)
        require_number("forget_share", self.forget_share, above=0, at_most=1)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """The teachers' logits, then distillation."""
        return [
            self._phase(self.teacher_step, self.teacher_step, Who.BOTH, self.teacher),
            self._phase("distil", self.distil_step, Who.BOTH, self.distil, self.rounds),
        ]

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The blend of the two sides' models."""
        state = super().aggregate(phase, state, replies)
        if phase.step == self.teacher_step:
            return state
        learned = joined(replies, self.forget_share, self.part)
        return replace(state, weights={**state.weights, **learned})
