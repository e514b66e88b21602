"""Three kinds of arrays in a model's weights: trainable weights, running statistics and counts.

Only trainable weights belong in norms, inner products, projections and differences that are scaled.
BatchNorm's running statistics are means of what was seen: a variance that is extrapolated may be negative.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlaf.core.types import Weights

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Last parts of the names of running statistics and of their counts, as torch calls them."""


def is_trainable(name: str, array: npt.NDArray[Any]) -> bool:
    """Whether an array holds trainable weights: neither running statistics nor counts."""
    return bool(np.issubdtype(array.dtype, np.floating)) and name.rpartition(".")[2] not in BUFFERS


def trainable(weights: Weights) -> Weights:
    """The trainable arrays among `weights`, in their order."""
    return {name: array for name, array in weights.items() if is_trainable(name, array)}


def in_dtype(value: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """`value` in `dtype`, whole numbers rounded."""
    rounded = value if np.issubdtype(dtype, np.floating) else np.rint(value)
    return np.asarray(rounded).astype(dtype)


def norm(weights: Weights) -> float:
    """The Euclidean norm over all trainable arrays."""
    squares = (np.square(array, dtype=np.float64).sum() for array in trainable(weights).values())
    return float(np.sqrt(sum(squares)))


def weights_digest(weights: Weights) -> str:
    """A SHA-256 over names, dtypes, shapes and bytes of all arrays; their order is no part of it."""
    found = hashlib.sha256()
    for name in sorted(weights):
        array = np.asarray(weights[name], order="C")
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()
