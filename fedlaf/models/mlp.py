"""A multilayer perceptron for tables, or for any inputs, flattened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from torch import nn

from fedlaf.core.errors import require_count
from fedlaf.core.types import Shape
from fedlaf.models.classifier import Classifier, Seeded


@dataclass(frozen=True)
class Mlp:
    """Linear layers of `hidden` dimensions with ReLU, then a linear one of `dims`; the head is linear."""

    hidden: Sequence[int] = (64,)
    dims: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for width in self.hidden:
            require_count("hidden", width)
        require_count("dims", self.dims)

    def build(self, shape: Shape, num_classes: int, seed: int) -> Classifier:
        """A model for inputs of any shape."""
        with Seeded(seed):
            layers: list[nn.Module] = [nn.Flatten()]
            for before, after in pairwise((prod(shape), *self.hidden)):
                layers += [nn.Linear(before, after), nn.ReLU()]
            last = nn.Linear((prod(shape), *self.hidden)[-1], self.dims)
            return Classifier(nn.Sequential(*layers, last), nn.Linear(self.dims, num_classes), self.dims)
