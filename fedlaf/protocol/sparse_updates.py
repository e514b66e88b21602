"""Sparse updates of a model: which weights they are of, as bits, and their values, on the wire."""

from __future__ import annotations

import math

import numpy as np

from fedlaf.core.types import Weights


def packed(mask: Weights) -> Weights:
    """Bool arrays as bits."""
    return {name: np.packbits(where) for name, where in mask.items()}


def unpacked(bits: Weights, like: Weights) -> Weights:
    """The bool arrays that `packed` made, of the shapes that `like` has."""
    return {
        name: np.unpackbits(held, count=math.prod(like[name].shape)).reshape(like[name].shape).astype(bool)
        for name, held in bits.items()
    }


def updated(base: Weights, mask: Weights, update: Weights) -> Weights:
    """The weights with an update added where the mask is true; everything else keeps its bits."""
    found = dict(base)
    for name, values in update.items():
        found[name] = np.array(base[name])
        found[name][mask[name]] += values.astype(base[name].dtype)
    return found
