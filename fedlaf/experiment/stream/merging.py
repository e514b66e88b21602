"""Weights after a service during which training went on."""

from __future__ import annotations

from fedlaf.core.types import Weights
from fedlaf.core.weights import in_dtype


def merged(unlearned: Weights, trained: Weights, original: Weights) -> Weights:
    """Unlearned + (trained - original) for each array, in double precision, in the dtype of `unlearned`.

    `original` are the weights when the service began, `trained` those that training has reached since. Counts
    are rounded; running variances do not fall below zero.
    """
    found = {}
    for name, array in unlearned.items():
        moved = array.astype("float64") + (trained[name].astype("float64") - original[name].astype("float64"))
        floor = 0.0 if name.rpartition(".")[2] == "running_var" else None
        found[name] = in_dtype(moved if floor is None else moved.clip(min=floor), array.dtype)
    return found
