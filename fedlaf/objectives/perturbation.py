"""JiT: forgotten rows are smoothed by noise on their inputs; no label, no other row."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedlaf.core.errors import require_count, require_number
from fedlaf.objectives.logit_objectives import Local


@dataclass(frozen=True)
class Smooth(Local):
    """Local steps on forgotten rows that bring a row's output near that of its noisy copies.

    The loss of a row is the mean over `samples` draws of Gaussian noise, of deviation `sigma` in the unit
    of a model's input, of |f(x) - f(x + noise)| / |noise|; noisy copies carry no gradient (Foster et al.,
    "Zero-shot machine unlearning at scale via Lipschitz regularization", 2024).
    """

    optimizer: str = "sgd"
    lr: float = 1e-3
    batch_size: int = 64
    sigma: float = 0.8
    samples: int = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("sigma", self.sigma, above=0)
        require_count("samples", self.samples)

    def slopes(self, clean: Tensor, noisy: Tensor, noise: Tensor) -> Tensor:
        """|f(x) - f(x + noise)| / |noise| [N] of logits [N, C] and noise [N, ...]."""
        moved = (clean - noisy.detach()).norm(dim=1)
        slopes: Tensor = moved / noise.flatten(1).norm(dim=1)
        return slopes
