"""SCRUB: rounds away from the original model on forgotten rows, rounds near it on remaining ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedlaf.core.errors import require_count
from fedlaf.method.contract import ClientRegistry
from fedlaf.objectives.logit_objectives import Hold, Push
from fedlaf.objectives.teachers import TeacherLogits
from fedlaf.protocol.messages import Part
from fedlaf.strategies.base.local_steps import LocalSteps
from fedlaf.strategies.base.phase import Phase, Who


@dataclass(frozen=True)
class Scrub(LocalSteps):
    """`push_rounds` times a round that holds (clients with remaining rows, averaged by those in use) and one
    that pushes (forgetting clients, averaged by forgotten rows); then holding alone, until there were
    `hold_rounds` of it.

    Kurmanji et al., "Towards Unbounded Machine Unlearning", NeurIPS 2023: its epochs of both kinds take
    turns. Theirs begin with a push; at the original model, though, its KL is at its minimum and has no slope.
    """

    teacher: TeacherLogits = field(default_factory=TeacherLogits)
    push: Push = field(default_factory=Push)
    hold: Hold = field(default_factory=Hold)
    push_rounds: int = 3
    hold_rounds: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("push_rounds", self.push_rounds)
        require_count("hold_rounds", self.hold_rounds, at_least=self.push_rounds + 1)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Both kinds in turn, each a phase of one round; then the rest of the holding."""
        turns = []
        for turn in range(1, self.push_rounds + 1):
            push = self._phase(f"push {turn}", "push", Who.FORGET, self.push, mean=Part.MODEL)
            hold = self._phase(f"hold {turn}", "hold", Who.RETAIN, self.hold, mean=Part.MODEL)
            turns += [hold, push]
        left = self.hold_rounds - self.push_rounds
        rest = self._phase("hold", "hold", Who.RETAIN, self.hold, left, Part.MODEL)
        teacher = self._phase("teacher_logits", "teacher_logits", Who.BOTH, self.teacher)
        return [teacher, *turns, rest]
