"""A model of one's own: residual layers over flattened inputs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

from fedlaf.core.errors import require_count
from fedlaf.core.types import Shape
from fedlaf.models import Classifier
from fedlaf.models.classifier import Seeded


class Residual(nn.Module):
    """A layer whose output is added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """[N, W] from [N, W]."""
        found: Tensor = x + self.layer(x)
        return found


@dataclass(frozen=True)
class ResidualMlp:
    """`depth` residual layers of `width`; a linear layer of `dims` ends the extractor, the head is linear."""

    width: int = 64
    depth: int = 2
    dims: int = 32

    def __post_init__(self) -> None:
        for name in ("width", "depth", "dims"):
            require_count(name, getattr(self, name))

    def build(self, shape: Shape, num_classes: int, seed: int) -> Classifier:
        """A model for inputs of any shape, its initial weights drawn from `seed` alone."""
        with Seeded(seed):
            extractor = nn.Sequential(
                nn.Flatten(), nn.Linear(prod(shape), self.width),
                *(Residual(self.width) for _ in range(self.depth)), nn.Linear(self.width, self.dims),
            )  # fmt: skip
            return Classifier(extractor, nn.Linear(self.dims, num_classes), self.dims)
