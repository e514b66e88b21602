"""A mean and a covariance of representations: what the VAEs are compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedlaf.models.vae import Reconstruction

SHRINKAGE = 0.1
"""How much of the covariance is replaced by a multiple of the identity with the same trace."""


class Gaussian(nn.Module):
    """A Gaussian of representations whose reconstruction error is the squared Mahalanobis distance.

    It "reconstructs" every row as the mean: in units whitened by `whiten` [D, D] the squared error,
    summed over D, is (e - mean)^T S^-1 (e - mean) for the shrunk covariance S. `shift` [D] is the
    mean, `scale` [D] the deviation of each dimension.
    """

    shift: Tensor
    scale: Tensor
    whiten: Tensor

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(dims))
        self.register_buffer("scale", torch.ones(dims))
        self.register_buffer("whiten", torch.eye(dims))

    def forward(self, representation: Tensor, noise: Tensor | None = None) -> Reconstruction:
        """Whitened deviations [N, D] from the mean as the target, zeros as what is decoded."""
        target = (representation - self.shift) @ self.whiten
        none = target[:, :0]
        return Reconstruction(torch.zeros_like(target), target, none, none)

    @torch.no_grad()
    def fit(self, mean: Tensor, second: Tensor) -> None:
        """Set the buffers from the moments E[e] [D] and E[e e^T] [D, D], float64.

        S = (1 - a) C + a (tr C / D) I with a = 0.1: the form of Ledoit and Wolf (2004) with a fixed
        share, so that a covariance of fewer rows than dimensions can be inverted.
        """
        covariance = second - torch.outer(mean, mean)
        dims = len(mean)
        level = max(float(covariance.diagonal().mean()), 1e-12)
        shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * torch.eye(dims, dtype=covariance.dtype)
        values, vectors = torch.linalg.eigh(shrunk)
        whiten = (vectors * values.clamp_min(SHRINKAGE * level).rsqrt()) @ vectors.T
        deviation = covariance.diagonal().clamp_min(0).sqrt()
        deviation[deviation < 1e-6] = 1.0
        for buffer, found in ((self.shift, mean), (self.scale, deviation), (self.whiten, whiten)):
            buffer.copy_(found.to(buffer))
