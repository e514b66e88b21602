"""What teachers say of rows: frozen values made by conf/ and sent to clients, which keep the logits."""

from __future__ import annotations

from dataclasses import dataclass

from fedlaf.core.errors import require_number


@dataclass(frozen=True)
class TeacherLogits:
    """The teacher is the original model, for both kinds of rows: its logits, computed once.

    A client uses the same `share` of its remaining rows, at least one, through the whole request.
    """

    share: float = 0.25

    def __post_init__(self) -> None:
        require_number("share", self.share, above=0, at_most=1)


@dataclass(frozen=True)
class RandomTeacherLogits(TeacherLogits):
    """The same, but the teacher of forgotten rows is a randomly initialised model, one for all clients."""

    share: float = 0.15


@dataclass(frozen=True)
class RandomLabels(TeacherLogits):
    """The teacher of a forgotten row is a random class, drawn once, other than its own."""


@dataclass(frozen=True)
class VirtualTeacher(TeacherLogits):
    """The teacher of a forgotten row is the original model with one class taken back: the row's label or,
    with `labels` false, the class that the original names. Its logit becomes the row's lowest one, or with
    `excluded` the least number there is. Remaining rows have the original, where a `share` of them is used.
    """

    share: float = 0.0
    labels: bool = True
    excluded: bool = False

    def __post_init__(self) -> None:
        require_number("share", self.share, at_least=0, at_most=1)


@dataclass(frozen=True)
class AdversarialRelabel:
    """The teacher of forgotten rows is the original model across the boundary, the true class left out.

    One step of size `epsilon` per pixel (of 1) along the sign of the loss's gradient (Chen et al.,
    CVPR 2023, eq. 2 and 3); remaining rows have no teacher.
    """

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        require_number("epsilon", self.epsilon, above=0, at_most=1)
