"""What the methods that LAF is compared with do in local steps: frozen values that conf/ makes, the wire
carries as flat scalars, and clients call. The type of an objective says which rows and labels it sees.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlaf.core.errors import require, require_count, require_number
from fedlaf.core.settings import require_effect
from fedlaf.objectives import logit_losses


@dataclass(frozen=True)
class Batch:
    """One kind of rows in a step: the student's logits [N, C], and the teacher's [N, C] ([N, 0]: none)."""

    student: Tensor
    teacher: Tensor


@dataclass(frozen=True)
class LabelledBatch(Batch):
    """The same with labels [N]."""

    labels: Tensor


@dataclass(frozen=True)
class Local:
    """Local steps over the whole model: `steps` of them, or (None) one pass over the rows in use.

    A fresh optimiser, `adam` or `sgd`, in each round; gradients are clipped to the norm `clip` (None: not).
    """

    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.0
    batch_size: int = 32
    steps: int | None = None
    clip: float | None = None

    uses: ClassVar[tuple[bool, bool]] = (True, True)
    """Whether remaining and forgotten rows are used."""
    teacher: ClassVar[bool] = True
    """Whether rows have teachers, which an earlier round must have left with the client."""

    def __post_init__(self) -> None:
        require(self.optimizer in ("adam", "sgd"), "optimizer", "adam or sgd", self.optimizer)
        require_number("lr", self.lr, above=0)
        require_number("momentum", self.momentum, at_least=0, at_most=1)
        require_count("batch_size", self.batch_size)
        if self.steps is not None:
            require_count("steps", self.steps)
        if self.clip is not None:
            require_number("clip", self.clip, above=0)
        require_effect(self, "momentum", when="optimizer=sgd", holds=self.optimizer == "sgd")

    def optimiser(self, model: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimiser over all parameters."""
        if self.optimizer == "adam":
            return torch.optim.Adam(model.parameters(), lr=self.lr)
        return torch.optim.SGD(model.parameters(), lr=self.lr, momentum=self.momentum)

    def count(self, rows: int) -> int:
        """Steps for a client whose larger kind of rows in use has `rows`."""
        return ceil(rows / self.batch_size) if self.steps is None else self.steps


B_contra = TypeVar("B_contra", bound=Batch, contravariant=True)


class Objective(Local, ABC, Generic[B_contra]):
    """A loss of the student's logits on batches of one type."""

    @abstractmethod
    def loss(self, retain: B_contra, forget: B_contra) -> Tensor:
        """The loss of a step on remaining (near) and forgotten (far) rows; either may be empty."""


class LabelFree(Objective[Batch]):
    """An objective that is given no labels."""


class Supervised(Objective[LabelledBatch]):
    """An objective that reads the labels of the rows that it uses."""


@dataclass(frozen=True)
class NegGrad(Supervised):
    """Minus the cross-entropy of forgotten rows: training backwards (NegGrad; Golatkar et al., CVPR 2020)."""

    optimizer: str = "sgd"
    lr: float = 0.005
    momentum: float = 0.9
    steps: int | None = 10
    clip: float | None = 5.0

    uses: ClassVar[tuple[bool, bool]] = (False, True)
    teacher: ClassVar[bool] = False

    def loss(self, retain: LabelledBatch, forget: LabelledBatch) -> Tensor:
        """-CE(forgotten)."""
        return -functional.cross_entropy(forget.student, forget.labels)


@dataclass(frozen=True)
class Push(LabelFree):
    """SCRUB's maximising step: away from what the original model says of forgotten rows.

    Kurmanji et al., NeurIPS 2023, eq. 3, the last term.
    """

    steps: int | None = 10
    temperature: float = 4.0

    uses: ClassVar[tuple[bool, bool]] = (False, True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("temperature", self.temperature, above=0)

    def loss(self, retain: Batch, forget: Batch) -> Tensor:
        """-KL(original || student) of forgotten rows."""
        return -logit_losses.mean(logit_losses.divergence(forget.teacher, forget.student, self.temperature))


@dataclass(frozen=True)
class Hold(Supervised):
    """SCRUB's minimising step: remaining rows stay with the original model and with their labels.

    alpha KL + gamma CE (Kurmanji et al., NeurIPS 2023, eq. 3, the first two terms; alpha 0.5 there).
    """

    alpha: float = 0.05
    gamma: float = 1.0
    temperature: float = 4.0

    uses: ClassVar[tuple[bool, bool]] = (True, False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("alpha", self.alpha, at_least=0)
        require_number("gamma", self.gamma, at_least=0)
        require(self.alpha + self.gamma > 0, "gamma", "alpha or gamma above 0", self.gamma)
        require_number("temperature", self.temperature, above=0)

    def loss(self, retain: LabelledBatch, forget: LabelledBatch) -> Tensor:
        """Alpha KL(original || student) + gamma CE of remaining rows."""
        kept = logit_losses.mean(logit_losses.divergence(retain.teacher, retain.student, self.temperature))
        return self.alpha * kept + self.gamma * functional.cross_entropy(retain.student, retain.labels)


@dataclass(frozen=True)
class DistilBoth(LabelFree):
    """Towards each row's own teacher, whichever that is: the mean KL over both kinds of rows.

    With an incompetent teacher of forgotten rows it is Chundawat et al., AAAI 2023, eq. 3.
    """

    steps: int | None = 10
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("temperature", self.temperature, above=0)

    def loss(self, retain: Batch, forget: Batch) -> Tensor:
        """Mean of KL(teacher || student) over the rows of the step."""
        apart = [logit_losses.divergence(b.teacher, b.student, self.temperature) for b in (retain, forget)]
        return logit_losses.mean(torch.cat(apart))


@dataclass(frozen=True)
class Shrink(LabelFree):
    """Cross-entropy of forgotten rows to the class that their teacher names: the nearest wrong one.

    Chen et al., CVPR 2023, eq. 4. Labels were read when the teacher was found (`AdversarialRelabel`).
    """

    steps: int | None = 20

    uses: ClassVar[tuple[bool, bool]] = (False, True)

    def loss(self, retain: Batch, forget: Batch) -> Tensor:
        """CE(forgotten, argmax of the teacher)."""
        return functional.cross_entropy(forget.student, forget.teacher.argmax(1))


@dataclass(frozen=True)
class DistilForgotten(DistilBoth):
    """The same on forgotten rows alone."""

    lr: float = 6e-4
    steps: int | None = None

    uses: ClassVar[tuple[bool, bool]] = (False, True)


@dataclass(frozen=True)
class DistilHead(DistilBoth):
    """The same by the head alone: the extractor is frozen."""

    def optimiser(self, model: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimiser over the head's parameters."""
        return super().optimiser(model.head)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Relabel(Supervised):
    """Cross-entropy of remaining rows to their labels, and of forgotten rows to the class that their teacher
    names (Fan et al., ICLR 2024, eq. 5, with random classes).
    """

    steps: int | None = 20

    def loss(self, retain: LabelledBatch, forget: LabelledBatch) -> Tensor:
        """CE(remaining) + CE(forgotten, argmax of the teacher)."""
        kept = functional.cross_entropy(retain.student, retain.labels, reduction="none")
        taught = functional.cross_entropy(forget.student, forget.teacher.argmax(1), reduction="none")
        return logit_losses.mean(kept) + logit_losses.mean(taught)
