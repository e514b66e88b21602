"""Gradients that clients send instead of a model: frozen values made by conf/ and sent to clients."""

from __future__ import annotations

from dataclasses import dataclass

from fedlaf.core.errors import require_count, require_number
from fedlaf.core.settings import internal


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
class Importance:
    """How much each weight matters to rows, at the weights that were sent: the sum over batches, times their
    rows, of the squared gradient of the mean cross-entropy (Foster et al., AAAI 2024). Of remaining rows
    a `share` is used, at least one.
    """

    batch_size: int = 32
    share: float = 1.0

    def __post_init__(self) -> None:
        require_count("batch_size", self.batch_size)
        require_number("share", self.share, above=0, at_most=1)


@dataclass(frozen=True)
class LabelFreeImportance(Importance):
    """The same of the absolute gradient of the mean squared norm of logits, which needs no label (Foster et
    al., "Loss-free machine unlearning", ICLR 2024 tiny papers).
    """


@dataclass(frozen=True)
class Saliency:
    """The sum over forgotten rows of the gradient of their cross-entropy, at the weights that were sent
    (Fan et al., ICLR 2024, eq. 3).
    """


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
