"""Teacher representations, computed once per client and request, and the VAEs that learn them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedlaf.client import batches
from fedlaf.core.types import Weights
from fedlaf.data import Rows, as_input
from fedlaf.models import Descent, Vae
from fedlaf.objectives import laf_losses
from fedlaf.objectives.laf import Represent

CHUNK = 256


@torch.no_grad()
def representations(extractor: nn.Module, rows: Rows, dims: int) -> Tensor:
    """e(x) of all rows, float32 [N, D = dims], in evaluation mode."""
    extractor.eval()
    device = next(extractor.parameters()).device
    parts = [extractor(as_input(chunk, device)) for chunk in rows.x.split(CHUNK) if len(chunk)]
    return torch.cat(parts) if parts else torch.empty(0, dims, device=device)


def moments(representation: Tensor, *, full: bool = False) -> Weights:
    """Mean [D] over rows of [N, D] and mean square [D], or with `full` the mean of e e^T [D, D].

    Float64: what standardising, or a Gaussian, needs of a client.
    """
    mean, second = moments_of(representation, full=full)
    return {"mean": mean.numpy(), "second_moment" if full else "mean_square": second.numpy()}


def moments_of(representation: Tensor, *, full: bool) -> tuple[Tensor, Tensor]:
    """The same as tensors on the CPU; zeros without rows."""
    wide = representation.double().cpu()
    count = max(len(wide), 1)
    second = wide.T @ wide if full else wide.square().sum(0)
    return wide.sum(0) / count, second / count


def fit_vae(
    vae: Vae, representation: Tensor, settings: Represent, epochs: int, stream: torch.Generator
) -> tuple[float, int]:
    """Train `vae` in place on [N, D]; gives the mean loss of the last epoch and the VAE passes."""
    descent = Descent(torch.optim.Adam(vae.parameters(), lr=settings.lr, fused=True), vae)
    vae.train()
    total = 0.0
    for _ in range(epochs):
        total = 0.0
        for batch in batches.epoch(len(representation), settings.batch_size, stream):
            noise = torch.randn(len(batch), settings.latent, generator=stream)
            drawn = representation[batch]
            loss = laf_losses.elbo(vae(drawn, noise.to(drawn.device)), settings.kl_weight)
            descent.step(loss)
            total += float(loss.detach()) * len(batch)
    return total / max(len(representation), 1), epochs * len(representation)
