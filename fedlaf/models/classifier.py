"""A classifier is an extractor and a head, kept apart: LAF changes the one and freezes the other."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from fedlaf.core.errors import require
from fedlaf.core.types import Shape

EXTRACTOR = "extractor."
"""Prefix of the extractor's names in a classifier's state dict."""


class Output(NamedTuple):
    """Representations [N, D] and logits [N, C], always both."""

    representation: Tensor
    logits: Tensor


class Classifier(nn.Module):
    """Extractor and head as one module; `pixels` is the side to which the extractor resizes, if it does."""

    def __init__(self, extractor: nn.Module, head: nn.Module, dims: int, pixels: int | None = None) -> None:
        super().__init__()
        self.extractor, self.head, self.dims, self.pixels = extractor, head, dims, pixels

    def forward(self, x: Tensor) -> Output:
        """Representations and logits of inputs [N, ...], as `as_input` makes them."""
        representation = self.extractor(x)
        return Output(representation, self.head(representation))


class ModelSpec(Protocol):
    """What a model configuration instantiates to."""

    def build(self, shape: Shape, num_classes: int, seed: int) -> Classifier:
        """A model for inputs of `shape`, with initial weights drawn from `seed` alone.

        Raises InvalidValue for inputs that the model cannot take.
        """


class Seeded:
    """Initial weights from a seed of their own, leaving torch's global generator as it was."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self.fork = torch.random.fork_rng(devices=[])
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *raised: object) -> None:
        self.fork.__exit__(None, None, None)


def channels_last(model: Classifier) -> Classifier:
    """The model with the weights of its convolutions in the memory format of its inputs."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def require_axes(shape: Shape, axes: str) -> None:
    """Raise InvalidValue unless inputs have as many axes as `axes` names, as in `channels, length`."""
    fits = len(shape) == len(axes.split(", "))
    require(fits, "model", f"one for inputs of shape {list(shape)}", f"one for [{axes}]")
