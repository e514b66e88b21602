"""Convolutional networks for images: the LAF paper's, a small one, and ResNet-18."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fedlaf.core.errors import require, require_count
from fedlaf.core.types import Shape
from fedlaf.models.classifier import Classifier, Seeded, channels_last, require_axes

IMAGE = "channels, height, width"


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

    def build(self, shape: Shape, num_classes: int, seed: int) -> Classifier:
        """Any image of at least 4 x 4 pixels fits. Raises InvalidValue for other inputs."""
        require_axes(shape, IMAGE)
        first, second = self.channels
        flat = second * (shape[1] // 4) * (shape[2] // 4)
        with Seeded(seed):
            extractor = nn.Sequential(
                nn.Conv2d(shape[0], first, 5, padding=2), *_pool(),
                nn.Conv2d(first, second, 5, padding=2), *_pool(),
                nn.Flatten(), nn.Linear(flat, self.dims),
            )  # fmt: skip
            head = nn.Sequential(nn.Linear(self.dims, self.hidden), nn.Linear(self.hidden, num_classes))
            return channels_last(Classifier(extractor, head, self.dims))


@dataclass(frozen=True)
class SmallCnn:
    """One 3x3 convolution and a linear layer: for 8 x 8 digits and fast tests."""

    channels: int = 8
    dims: int = 32

    def __post_init__(self) -> None:
        require_count("channels", self.channels)
        require_count("dims", self.dims)

    def build(self, shape: Shape, num_classes: int, seed: int) -> Classifier:
        """Any image of at least 2 x 2 pixels fits. Raises InvalidValue for other inputs."""
        require_axes(shape, IMAGE)
        flat = self.channels * (shape[1] // 2) * (shape[2] // 2)
        with Seeded(seed):
            extractor = nn.Sequential(
                nn.Conv2d(shape[0], self.channels, 3, padding=1), *_pool(),
                nn.Flatten(), nn.Linear(flat, self.dims),
            )  # fmt: skip
            head = nn.Linear(self.dims, num_classes)
            return channels_last(Classifier(extractor, head, self.dims))


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

    def build(self, shape: Shape, num_classes: int, seed: int) -> Classifier:
        """Any number of channels; BatchNorm statistics travel with the weights. Raises InvalidValue."""
        from torchvision.models import resnet18

        require_axes(shape, IMAGE)
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
        return channels_last(Classifier(extractor, head, self.dims, self.pixels))


def _pool() -> tuple[nn.Module, nn.Module]:
    # The two commute, bit for bit, gradients too; in this order ReLU has a quarter of the numbers.
    return nn.MaxPool2d(2), nn.ReLU()
