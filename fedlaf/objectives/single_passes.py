"""What clients do once, without steps: a teacher's logits, and gradients for the server."""

from __future__ import annotations

from dataclasses import dataclass

from fedlaf.core.errors import require_count, require_number
from fedlaf.core.settings import internal


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
class AdversarialRelabel:
    """The teacher of forgotten rows is the original model across the boundary, the true class left out.

    One step of size `epsilon` per pixel (of 1) along the sign of the loss's gradient (Chen et al.,
    CVPR 2023, eq. 2 and 3); remaining rows have no teacher.
    """

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        require_number("epsilon", self.epsilon, above=0, at_most=1)


@dataclass(frozen=True)
class FedOsdGradients:
    """Gradients at the global model for FedOSD: of `unlearning_cross_entropy` over forget rows, of the
    cross-entropy over retain rows. Each is the mean over `share` of the client's rows of that kind,
    drawn anew each round.
    """

    share: float = 0.03

    def __post_init__(self) -> None:
        require_number("share", self.share, above=0, at_most=1)


@dataclass(frozen=True)
class Unroll:
    """The sum over batches of the gradients of one pass over forgotten rows, at the weights that were sent.

    Weighed as federated averaging weighs the client: by its rows, of the `whole` of all clients.
    """

    batch_size: int = 32
    whole: int = internal(1)

    def __post_init__(self) -> None:
        require_count("batch_size", self.batch_size)
        require_count("whole", self.whole)
