"""Means, sums and projections of weights: pure functions on dicts of arrays.

Sums are taken in the order given, in double precision; callers give partition order, so that
results do not depend on which client answered first.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedlaf.core.types import Weights
from fedlaf.core.weights import in_dtype, trainable

SAME = 1e-9
"""What is smaller than this part of a whole is rounding."""


def weighted_mean(many: Sequence[Weights], weights: Sequence[float]) -> Weights:
    """sum_k w_k x_k / sum_k w_k for each name, in the dtype of the first; counts are rounded.

    Raises ValueError without a positive weight.
    """
    whole = float(sum(weights))
    if not many or whole <= 0:
        raise ValueError("a mean needs at least one positive weight")
    shares = [weight / whole for weight in weights]
    return {
        name: in_dtype(sum_of([one[name] for one in many], shares), first.dtype)
        for name, first in many[0].items()
    }


def sum_of(arrays: Sequence[npt.NDArray[np.generic]], weights: Sequence[float]) -> npt.NDArray[np.float64]:
    """sum_k w_k x_k in double precision."""
    result = np.zeros(arrays[0].shape, np.float64)
    for array, weight in zip(arrays, weights, strict=True):
        result += weight * array.astype(np.float64)
    return result


def summed(many: Sequence[Weights]) -> Weights:
    """sum_k x_k for each name, double precision."""
    return {name: sum_of([one[name] for one in many], [1.0] * len(many)) for name in many[0]}


def blend(first: Weights, second: Weights, share: float) -> Weights:
    """(1 - share) * first + share * second."""
    return weighted_mean([first, second], [1.0 - share, share])


def difference(left: Weights, right: Weights) -> Weights:
    """Left - right, double precision."""
    return {k: left[k].astype(np.float64) - right[k].astype(np.float64) for k in left}


def moved(weights: Weights, direction: Weights, rate: float) -> Weights:
    """Weights + rate * direction, in the weights' dtypes; what has no direction stays."""
    there = {k: weights[k] + rate * direction[k].astype(np.float64) for k in direction}
    return {k: np.asarray(there.get(k, v)).astype(v.dtype) for k, v in weights.items()}


def orthogonal_to(gradient: Weights, others: Sequence[Weights]) -> Weights:
    """The gradient without its part in the span of the others, at the gradient's length; double precision.

    Nothing (zeros) when it lies in their span. The basis is that of a QR decomposition of the others at unit
    length, turned by the SVD of its small factor, so that dependent ones count once (Pan et al., AAAI 2025).
    """
    flat = _flat(gradient)
    lengths = [(other, np.linalg.norm(other)) for other in map(_flat, others)]
    units = [other / length for other, length in lengths if length > 0]
    left = flat
    if units:
        q, r = np.linalg.qr(np.stack(units, axis=1))
        turned, size, _ = np.linalg.svd(r)
        basis = q @ turned[:, : len(size)][:, size > SAME * size[0]]
        for _ in range(2):  # once more takes out what rounding left
            left = left - basis @ (basis.T @ left)
    whole, rest = np.linalg.norm(flat), np.linalg.norm(left)
    scale = whole / rest if rest > SAME * whole else 0.0
    return _shaped(scale * left, gradient)


def _flat(weights: Weights) -> npt.NDArray[np.float64]:
    return np.concatenate([array.astype(np.float64).ravel() for array in weights.values()])


def _shaped(flat: npt.NDArray[np.float64], like: Weights) -> Weights:
    ends = np.cumsum([array.size for array in like.values()])[:-1]
    pieces = zip(like.items(), np.split(flat, ends), strict=True)
    return {name: piece.reshape(array.shape) for (name, array), piece in pieces}


def inner(left: Weights, right: Weights) -> float:
    """Inner product over all arrays."""
    return float(sum(np.vdot(left[k], right[k]) for k in left))


def remove_reverting_component(now: Weights, proposed: Weights, start: Weights, origin: Weights) -> Weights:
    """`proposed` without the part of its update from `now` that leads from `start` back to `origin`.

    The update of the trainable weights loses its component along (start - origin) when it points home; an
    idea of FedOSD's recovery (Pan et al., AAAI 2025), there for gradients and with start = now. Running
    statistics and counts are those proposed.
    """
    update = difference(trainable(proposed), now)
    away = difference(trainable(start), origin)
    along, norm = inner(update, away), inner(away, away)
    if along >= 0 or norm == 0:
        return proposed
    kept = {k: np.asarray(now[k] + update[k] - (along / norm) * away[k]) for k in update}
    return {k: kept[k].astype(now[k].dtype) if k in kept else v for k, v in proposed.items()}


def adam_step(
    weights: Weights, gradient: Weights, rate: float, state: dict[str, Any] | None
) -> tuple[Weights, dict[str, Any]]:
    """One step of torch's Adam on the arrays that have a gradient; gives weights and Adam's state."""
    parameters = {k: torch.nn.Parameter(torch.from_numpy(weights[k].copy())) for k in gradient}
    adam = torch.optim.Adam(parameters.values(), lr=rate)
    if state is not None:
        adam.load_state_dict(deepcopy(state))  # torch keeps some of what it loads
    for name, parameter in parameters.items():
        parameter.grad = torch.from_numpy(gradient[name]).to(parameter.dtype)
    adam.step()
    stepped = {k: v.detach().numpy() for k, v in parameters.items()}
    return {**weights, **stepped}, adam.state_dict()
