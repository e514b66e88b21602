"""Supervised training, projected ascent and distillation: hyperparameters bound to what they set."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlaf.core.errors import require, require_count, require_number, require_one_of
from fedlaf.core.settings import require_effect
from fedlaf.core.types import Shape


@dataclass(frozen=True)
class Fit:
    """Supervised local training: cross-entropy with Adam or SGD, fresh in each round.

    `labels` is the share of a client's remaining rows that are labelled: the same rows in every
    round, and no other is touched. `share` is that of its steps which a client takes: 0.5 of one
    epoch ends half-way, after a whole batch.
    """

    optimizer: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.0
    epochs: int = 1
    batch_size: int = 32
    augment: str = "none"
    labels: float = 1.0
    share: float = 1.0

    def __post_init__(self) -> None:
        require_one_of("optimizer", self.optimizer, ("adam", "sgd"))
        require_one_of("augment", self.augment, ("none", "crop_flip"))
        require_number("lr", self.lr, above=0)
        require_number("labels", self.labels, at_least=0, at_most=1)
        require_number("share", self.share, above=0, at_most=1)
        require_number("weight_decay", self.weight_decay, at_least=0)
        require_number("momentum", self.momentum, at_least=0, at_most=1)
        require_count("epochs", self.epochs)
        require_count("batch_size", self.batch_size)
        require_effect(self, "momentum", when="optimizer=sgd", holds=self.optimizer == "sgd")

    def check_inputs(self, shape: Shape) -> None:
        """Raise InvalidValue where inputs of `shape` cannot be augmented."""
        fits = self.augment == "none" or len(shape) == 3
        require(fits, "augment", f"none for inputs of shape {list(shape)}, no images", self.augment)

    def steps(self, rows: int) -> int:
        """Local steps over `rows` rows."""
        return ceil(self.share * self.epochs * ceil(rows / self.batch_size))

    def optimiser(self, model: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimiser over all parameters."""
        decay = self.weight_decay
        if self.optimizer == "adam":
            return torch.optim.Adam(model.parameters(), lr=self.lr, weight_decay=decay)
        return torch.optim.SGD(model.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=decay)


@dataclass(frozen=True)
class SparseFit(Fit):
    """The same by a sparse update of a frozen model: what is trained is the update, and it alone is sent."""


@dataclass(frozen=True)
class Ascend:
    """Projected ascent (Halimi et al., 2022): SGD up the cross-entropy of the rows to be forgotten, gradients
    clipped to norm `clip`, until no more than `enough` of a batch is still right.
    """

    lr: float = 0.01
    momentum: float = 0.9
    clip: float = 5.0
    epochs: int = 5
    batch_size: int = 32
    enough: float = 0.1

    def __post_init__(self) -> None:
        require_number("lr", self.lr, above=0)
        require_number("momentum", self.momentum, at_least=0, at_most=1)
        require_number("clip", self.clip, above=0)
        require_number("enough", self.enough, at_least=0, at_most=1)
        require_count("epochs", self.epochs)
        require_count("batch_size", self.batch_size)


@dataclass(frozen=True)
class Distil:
    """Distillation with Adam: KL from the teacher's predictions to the student's, both at `temperature`."""

    lr: float = 1e-3
    epochs: int = 5
    batch_size: int = 32
    temperature: float = 3.0

    def __post_init__(self) -> None:
        require_number("lr", self.lr, above=0)
        require_count("epochs", self.epochs)
        require_count("batch_size", self.batch_size)
        require_number("temperature", self.temperature, above=0)

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """T^2 KL(teacher || student) of logits [N, C], mean over rows (Hinton et al., 2015)."""
        soft = functional.log_softmax(student / self.temperature, 1)
        target = functional.softmax(teacher / self.temperature, 1)
        return self.temperature**2 * functional.kl_div(soft, target, reduction="batchmean")
