"""A classifier is an extractor and a head, kept apart: LAF changes the one and freezes the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from fedlaf.core.errors import require, require_count

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
        """Representations and logits of float inputs [N, c, h, w]."""
        representation = self.extractor(x)
        return Output(representation, self.head(representation))


class ModelSpec(Protocol):
    """What a model configuration instantiates to."""

    def build(self, shape: tuple[int, int, int], num_classes: int, seed: int) -> Classifier:
        """A model with initial weights drawn from `seed` alone."""


@dataclass(frozen=True)
class Cnn:
    """The CNN of the LAF paper: two 5x5 convolutions, 256 linear dimensions, head 256-128-C.

    Source: Shen et al., ICLR 2024, for 28 x 28 inputs; other sizes change the linear layer only.
    """

    channels: tuple[int, int] = (16, 32)
    dims: int = 256
    hidden: int = 128

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        require(len(self.channels) == 2, "channels", "two numbers of channels", self.channels)
        for count in self.channels:
            require_count("channels", count)
        require_count("dims", self.dims)
        require_count("hidden", self.hidden)

    def build(self, shape: tuple[int, int, int], num_classes: int, seed: int) -> Classifier:
        """Raises nothing: any input of at least 4 x 4 pixels fits."""
        first, second = self.channels
        flat = second * (shape[1] // 4) * (shape[2] // 4)
        with Seeded(seed):
            extractor = nn.Sequential(
                nn.Conv2d(shape[0], first, 5, padding=2), *_pool(),
                nn.Conv2d(first, second, 5, padding=2), *_pool(),
                nn.Flatten(), nn.Linear(flat, self.dims),
            )  # fmt: skip
            head = nn.Sequential(nn.Linear(self.dims, self.hidden), nn.Linear(self.hidden, num_classes))
            return _channels_last(Classifier(extractor, head, self.dims))


@dataclass(frozen=True)
class SmallCnn:
    """One 3x3 convolution and a linear layer: for 8 x 8 digits and fast tests."""

    channels: int = 8
    dims: int = 32

    def __post_init__(self) -> None:
        require_count("channels", self.channels)
        require_count("dims", self.dims)

    def build(self, shape: tuple[int, int, int], num_classes: int, seed: int) -> Classifier:
        """Raises nothing: any input of at least 2 x 2 pixels fits."""
        flat = self.channels * (shape[1] // 2) * (shape[2] // 2)
        with Seeded(seed):
            extractor = nn.Sequential(
                nn.Conv2d(shape[0], self.channels, 3, padding=1), *_pool(),
                nn.Flatten(), nn.Linear(flat, self.dims),
            )  # fmt: skip
            head = nn.Linear(self.dims, num_classes)
            return _channels_last(Classifier(extractor, head, self.dims))


@dataclass(frozen=True)
class ResNet18:
    """torchvision's ResNet-18 from scratch; a linear 512-256 ends the extractor, head 256-C.

    `stem` is `cifar` (3x3, stride 1, no pooling: for native 32 x 32 inputs) or `imagenet`. With
    `pixels` the extractor resizes inputs to that side first (224 and `imagenet` are the LAF paper's).
    """

    dims: int = 256
    stem: str = "cifar"
    pixels: int | None = None

    def __post_init__(self) -> None:
        require(self.stem in ("cifar", "imagenet"), "stem", "cifar or imagenet", self.stem)
        require_count("dims", self.dims)
        if self.pixels is not None:
            require_count("pixels", self.pixels)

    def build(self, shape: tuple[int, int, int], num_classes: int, seed: int) -> Classifier:
        """Any number of channels; BatchNorm statistics travel with the weights."""
        from torchvision.models import resnet18

        with Seeded(seed):
            extractor = resnet18(weights=None, num_classes=self.dims)
            if self.stem == "cifar":
                extractor.conv1 = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
                extractor.maxpool = nn.Identity()
            elif shape[0] != 3:
                extractor.conv1 = nn.Conv2d(shape[0], 64, 7, 2, 3, bias=False)
            head = nn.Linear(self.dims, num_classes)
        if self.pixels is not None:
            resize = nn.Upsample((self.pixels, self.pixels), mode="bilinear", align_corners=False)
            extractor = nn.Sequential(resize, extractor)
        return _channels_last(Classifier(extractor, head, self.dims, self.pixels))


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


def _pool() -> tuple[nn.Module, nn.Module]:
    # The two commute, bit for bit, gradients too; in this order ReLU has a quarter of the numbers.
    return nn.MaxPool2d(2), nn.ReLU()


def _channels_last(model: Classifier) -> Classifier:
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
