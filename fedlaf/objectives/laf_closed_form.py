"""LAF in closed form: sums over rows, and the solution for the extractor's last linear layer.

With e = W phi + b, phi~ = (phi, 1), forgotten rows asked for t - e and remaining rows for no change, the
ridge solution is dW = (sum_f (t - e) phi~^T) (sum_r phi~ phi~^T + sum_f phi~ phi~^T + lambda I)^-1. All sums
are over rows, in float64, so that a federation's are those of all rows together. All of it is ours; pure
functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from scipy.linalg.blas import dsyrk
from torch import Tensor

from fedlaf.core.errors import require_count, require_number
from fedlaf.core.settings import internal

PROJECTION = "projection"
"""The name of the random stream of projections: one for all clients and the server."""

OCTAVES, PER_OCTAVE = 16, 64
"""Errors are counted in bins from 2^-16 to 2^16, each 1 % wide: a threshold is exact to that."""


@dataclass(frozen=True)
class ClosedForm:
    """What the clients of LAF in closed form are told.

    A forget row is an outlier when it is further out than all but a share `outlier_quantile` of the retain
    rows. `most_rows` is how many retain rows a client uses (None: all). `min_rows` is the least number of
    rows behind a contribution; with `secure_aggregation` it holds for the sum of all clients
    instead. `projection` is how many random projections, the same at all clients, stand for the features
    where these are more (None: never). The rest is filled in by the server.
    """

    outlier_quantile: float = 0.05
    most_rows: int | None = None
    min_rows: int = 10
    secure_aggregation: bool = False
    projection: int | None = None
    threshold: float = internal(0.0)
    keep_targets: bool = internal(False)
    latent: int = internal(8)
    decoder: str = internal("linear")
    error: str = internal("mean")
    density: str = internal("gaussian")

    def __post_init__(self) -> None:
        require_number("outlier_quantile", self.outlier_quantile, above=0, at_most=0.5)
        require_count("min_rows", self.min_rows)
        for name in ("most_rows", "projection"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name))

    @property
    def floor(self) -> int:
        """The least number of rows behind a single client's contribution."""
        return 1 if self.secure_aggregation else self.min_rows

    @property
    def clip(self) -> float:
        """The quantile of a whitened component that only `outlier_quantile` of the retain rows exceed."""
        return NormalDist().inv_cdf(1 - self.outlier_quantile)

    def outlier(self, found: Tensor) -> Tensor:
        """Which rows [N] have an error [N] above the threshold; none where they are fewer than the floor."""
        outlier = found > self.threshold
        return outlier if int(outlier.sum()) >= self.floor else torch.zeros_like(outlier)

    def projected(self, features: int, stream: torch.Generator) -> Tensor | None:
        """The projection [P, k] of so many features P, float64; None where they are taken as they are.

        Entries are normal with variance 1 / k, so that inner products are kept in the mean (Johnson and
        Lindenstrauss, 1984).
        """
        if self.projection is None or features <= self.projection:
            return None
        drawn = torch.randn(features, self.projection, generator=stream, dtype=torch.float64)
        return drawn / math.sqrt(self.projection)


def with_one(rows: Tensor) -> Tensor:
    """Rows [N, P] as float64 with a column of ones: [N, P + 1]."""
    wide = rows.double()
    return torch.cat([wide, wide.new_ones(len(wide), 1)], 1)


def gram(rows: Tensor) -> Tensor:
    """The upper triangle of the sum of x x^T over rows [N, P], with x = (row, 1); [(P + 1)(P + 2) / 2].

    Its last number is the number of rows.
    """
    extended = with_one(rows)
    if extended.is_cuda:
        whole = extended.T @ extended
        return torch.cat([row[place:] for place, row in enumerate(whole)])
    # BLAS's product for symmetric matrices computes one triangle only: half the work.
    columns = dsyrk(1.0, extended.detach().numpy().T, lower=1).T
    return torch.from_numpy(np.concatenate([column[place:] for place, column in enumerate(columns)]))


def unpacked(triangle: Tensor) -> Tensor:
    """The symmetric matrix [P, P] of an upper triangle [P (P + 1) / 2]."""
    size = int(((8 * len(triangle) + 1) ** 0.5 - 1) / 2)
    upper = torch.triu_indices(size, size)
    whole = triangle.new_zeros(size, size)
    whole[upper[0], upper[1]] = triangle
    whole[upper[1], upper[0]] = triangle
    return whole


def error_counts(found: Tensor) -> Tensor:
    """How many errors [N] fall into each bin; float64 [2 * OCTAVES * PER_OCTAVE]."""
    bins = 2 * OCTAVES * PER_OCTAVE
    place = ((found.log2() + OCTAVES) * PER_OCTAVE).floor().clamp(0, bins - 1).long()
    return torch.bincount(place, minlength=bins).double()


def error_threshold(counts: Tensor, quantile: float) -> float:
    """The upper edge of the first bin at which at most a share `quantile` of the counted errors is beyond."""
    within = counts.cumsum(0) >= (1 - quantile) * counts.sum()
    first = int(within.double().argmax())
    return float(2.0 ** ((first + 1) / PER_OCTAVE - OCTAVES))


def ridge_solution(cross: Tensor, whole: Tensor, ridge: float) -> Tensor:
    """DW [D, P + 1] from sum_f (t - e) phi~^T [D, P + 1] and the gram matrix of all rows [P + 1, P + 1].

    lambda is `ridge` times the mean diagonal.
    """
    damped = whole + ridge * whole.diagonal().mean() * torch.eye(len(whole), dtype=whole.dtype)
    solution: Tensor = torch.cholesky_solve(cross.T, torch.linalg.cholesky(damped)).T
    return solution
