"""The VAE of representations: `h` on the data of all clients, `h_f` on the forgotten rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedlaf.models.classifier import Seeded


class Reconstruction(NamedTuple):
    """Reconstruction and its target [N, D] in the VAE's own units; mean and log variance [N, Z]."""

    decoded: Tensor
    target: Tensor
    mean: Tensor
    log_variance: Tensor


class Vae(nn.Module):
    """D-128-32-Z-32-128-D with ReLU inside (Shen et al., ICLR 2024, appendix).

    `decoder` ends in a `sigmoid` (published) or is `linear`. `shift` and `scale` [D] standardise
    the representations before they are encoded; at 0 and 1, as published, they do nothing.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, dims: int, latent: int, decoder: str) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dims, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU())
        self.mean = nn.Linear(32, latent)
        self.log_variance = nn.Linear(32, latent)
        last: nn.Module = nn.Sigmoid() if decoder == "sigmoid" else nn.Identity()
        self.decoder = nn.Sequential(
            nn.Linear(latent, 32), nn.ReLU(), nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, dims), last
        )
        self.register_buffer("shift", torch.zeros(dims))
        self.register_buffer("scale", torch.ones(dims))

    def forward(self, representation: Tensor, noise: Tensor | None = None) -> Reconstruction:
        """Reconstruct representations [N, D] from z = mean + exp(log_variance / 2) * noise [N, Z].

        Without noise z is the mean.
        """
        target = (representation - self.shift) / self.scale
        hidden = self.encoder(target)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean if noise is None else mean + torch.exp(0.5 * log_variance) * noise
        return Reconstruction(self.decoder(z), target, mean, log_variance)


def build_vae(dims: int, latent: int, decoder: str, seed: int) -> Vae:
    """A VAE with initial weights drawn from `seed` alone."""
    with Seeded(seed):
        return Vae(dims, latent, decoder)
