"""A negative control: the head alone is taught to forget, and the extractor remembers all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from fedlaf.objectives import DistilHead, VirtualTeacher
from fedlaf.protocol.messages import Part
from fedlaf.strategies.bad_teacher import BadTeacher


@dataclass(frozen=True)
class HeadDistillation(BadTeacher):
    """`rounds` in which all clients distil the head, over the frozen extractor: remaining rows from the
    original, forgotten rows from the original without the class that it names. No label is read.

    What the model answers looks forgotten; representations keep their bits. Measures that look at answers
    alone pass it (the negative control of the information difference index, AAAI 2026).
    """

    teacher: VirtualTeacher = field(
        default_factory=lambda: VirtualTeacher(share=0.15, labels=False, excluded=True)
    )
    distil: DistilHead = field(default_factory=DistilHead)

    teacher_step: ClassVar[str] = "virtual_teacher"
    distil_step: ClassVar[str] = "distil_head"
    part: ClassVar[str] = Part.HEAD
