"""Random images, and a watch on the sizes at which a classifier sees them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fedlaf.models import Classifier


def images(count: int, side: int = 8, seed: int = 0) -> Tensor:
    """Random uint8 images [count, 3, side, side]."""
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=stream, dtype=torch.uint8)


def sides_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int]]:
    """Of each batch to come: whether it is trained on, and its side."""
    seen: list[tuple[bool, int]] = []
    forward = Classifier.forward

    def watched(self: Classifier, x: Tensor) -> Any:
        seen.append((self.training, x.shape[-1]))
        return forward(self, x)

    monkeypatch.setattr(Classifier, "forward", watched)
    return seen
