"""Small transformers: of series cut into overlapping patches, and of images cut into patches (ViT).

No dropout and no statistics of batches: training and evaluation mode compute the same. Attention is written
with matrix products, which are deterministic on a GPU too; torch's fused kernels are not in single precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlaf.core.errors import require, require_count
from fedlaf.core.types import Shape
from fedlaf.models.classifier import Classifier, Seeded, channels_last, require_axes
from fedlaf.models.convolutional import IMAGE


class Attention(nn.Module):
    """Self-attention with several heads (Vaswani et al., NeurIPS 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [N, T, W] from tokens [N, T, W]."""
        count, length, width = tokens.shape
        joint = self.queries_keys_values(tokens).view(count, length, 3, self.heads, width // self.heads)
        queries, keys, values = joint.permute(2, 0, 3, 1, 4)
        scores = queries @ keys.transpose(-2, -1) * (width // self.heads) ** -0.5
        found: Tensor = self.mixed((scores.softmax(-1) @ values).transpose(1, 2).flatten(2))
        return found


class Block(nn.Module):
    """Attention and a layer of twice the width for each token, both added to what comes in (pre-norm)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        self.tokenwise = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [N, T, W] from tokens [N, T, W]."""
        tokens = tokens + self.attention(tokens)
        found: Tensor = tokens + self.tokenwise(tokens)
        return found


class Tokens(nn.Module):
    """A stem's [N, W, ...] as tokens [N, T, W], each with the learned position that is added to it."""

    def __init__(self, stem: nn.Module, shape: Shape, width: int) -> None:
        super().__init__()
        self.stem = stem
        with torch.no_grad():
            length = stem(torch.zeros(1, *shape)).flatten(2).shape[2]
        self.position = nn.Parameter(0.02 * torch.randn(length, width))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [N, T, W] of inputs [N, ...]."""
        found: Tensor = self.stem(x).flatten(2).transpose(1, 2) + self.position
        return found


class MeanToken(nn.Module):
    """The mean of all tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        """[N, W] from tokens [N, T, W]."""
        return tokens.mean(1)


@dataclass(frozen=True)
class Transformer:
    """A transformer of series [c, L]: `depth` blocks over patches of 2 `patch` - 1 steps, one every `patch`.

    The extractor ends in a linear layer of `dims`, the head is linear.
    """

    patch: int = 2
    width: int = 64
    heads: int = 4
    depth: int = 2
    dims: int = 64

    def __post_init__(self) -> None:
        _check_sizes(self)

    def build(self, shape: Shape, num_classes: int, seed: int) -> Classifier:
        """A model for series of any length. Raises InvalidValue for other inputs."""
        require_axes(shape, "channels, length")
        with Seeded(seed):
            stem = nn.Conv1d(shape[0], self.width, 2 * self.patch - 1, self.patch, self.patch - 1)
            return _classifier(self, stem, shape, num_classes)


@dataclass(frozen=True)
class Vit:
    """A vision transformer (Dosovitskiy et al., ICLR 2021) of images, cut into squares of `patch` pixels.

    Pixels at the right and lower border that fill no square are left out. The mean of all tokens goes
    through a linear layer of `dims`, which ends the extractor; the head is linear.
    """

    patch: int = 4
    width: int = 64
    heads: int = 4
    depth: int = 2
    dims: int = 64

    def __post_init__(self) -> None:
        _check_sizes(self)

    def build(self, shape: Shape, num_classes: int, seed: int) -> Classifier:
        """A model for images of at least `patch` pixels a side. Raises InvalidValue for other inputs."""
        require_axes(shape, IMAGE)
        side = min(shape[1:])
        require(self.patch <= side, "model.patch", f"at most the {side} pixels of an image", self.patch)
        with Seeded(seed):
            stem = nn.Conv2d(shape[0], self.width, self.patch, self.patch)
            return channels_last(_classifier(self, stem, shape, num_classes))


def _check_sizes(spec: Transformer | Vit) -> None:
    for name in ("patch", "width", "heads", "depth", "dims"):
        require_count(name, getattr(spec, name))
    require(spec.width % spec.heads == 0, "heads", f"a divisor of width, {spec.width}", spec.heads)


def _classifier(spec: Transformer | Vit, stem: nn.Module, shape: Shape, num_classes: int) -> Classifier:
    extractor = nn.Sequential(
        Tokens(stem, shape, spec.width),
        *(Block(spec.width, spec.heads) for _ in range(spec.depth)),
        nn.LayerNorm(spec.width), MeanToken(), nn.Linear(spec.width, spec.dims),
    )  # fmt: skip
    return Classifier(extractor, nn.Linear(spec.dims, num_classes), spec.dims)
