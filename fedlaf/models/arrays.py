"""Weights as arrays and as tensors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fedlaf.core.types import Weights


def load_weights(module: nn.Module, weights: Weights) -> None:
    """Load weights by name. Raises RuntimeError when names or shapes differ."""
    module.load_state_dict(as_tensors(weights))


def as_tensors(weights: Weights) -> dict[str, Tensor]:
    """Arrays as tensors that share their memory: to be read, never written."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writ")
        return {k: torch.from_numpy(v) for k, v in weights.items()}


def weights_of(module: nn.Module) -> Weights:
    """The state dict as arrays of their own."""
    return arrays_of(module.state_dict())


def arrays_of(tensors: Mapping[str, Tensor]) -> Weights:
    """Tensors as arrays of their own."""
    return {k: v.detach().cpu().contiguous().numpy().copy() for k, v in tensors.items()}
