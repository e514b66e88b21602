"""LAF as published, in one process and the obvious way: the oracle of the fast path.

Source: Shen, Zhang, Zhao, Bialkowski, Chen, Xu, "Label-Agnostic Forgetting: A Supervision-Free
Unlearning in Deep Models", ICLR 2024, and the order of work in its authors' public code: the
extractor is run on the images of every batch of every epoch, also to train the VAEs; remaining and
forgotten rows go through it apart; no graph is left out, so gradients also flow into teacher and
VAEs, where nobody uses them. Losses are written out again from the paper. `Represent` and `Forget`
are read as lists of hyperparameters only. Rows are tensors in memory: no data loader, no transforms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from fedlaf.client.batches import steps
from fedlaf.models import Vae
from fedlaf.objectives.laf import Forget, Represent

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Unlearning:
    """The student and the two VAEs, and uint8 images [N, c, h, w] of remaining and forgotten rows."""

    extractor: nn.Module
    h: Vae
    h_f: Vae
    retain: Tensor
    forget: Tensor


def as_published(extractor: nn.Module) -> nn.Module:
    """A copy with ReLU before pooling and in torch's default memory layout."""
    copy = deepcopy(extractor).to(memory_format=torch.contiguous_format)
    for layers in (m for m in copy.modules() if isinstance(m, nn.Sequential)):
        for i, (one, other) in enumerate(pairwise(list(layers))):
            if isinstance(one, nn.MaxPool2d) and isinstance(other, nn.ReLU):
                layers[i], layers[i + 1] = other, one
    return copy


def images(x: Tensor) -> Tensor:
    """uint8 [N, c, h, w] as float32 in [0, 1]."""
    return x.float() / 255


def reconstruct(vae: Vae, e: Tensor, noise: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """Reconstruction [N, D], mean and log variance [N, Z] of representations e [N, D], as they are."""
    hidden = vae.encoder(e)
    mu, log_variance = vae.mean(hidden), vae.log_variance(hidden)
    return vae.decoder(mu + torch.exp(log_variance / 2) * noise), mu, log_variance


def vae_loss(vae: Vae, e: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
    """Squared error summed over D plus weighted KL to N(0, 1) summed over Z, mean over the batch."""
    e_hat, mu, log_variance = reconstruct(vae, e, noise)
    squared = torch.sum((e_hat - e) ** 2) / len(e)
    kl = -torch.sum(1 + log_variance - mu**2 - torch.exp(log_variance)) / 2 / len(e)
    return squared + kl_weight * kl


def fit_vae(
    vae: Vae, extractor: nn.Module, x: Tensor, *, settings: Represent, epochs: int, stream: torch.Generator
) -> float:
    """Train `vae` in place on what `extractor` makes of x [N, c, h, w]; the last epoch's mean loss.

    `stream` draws the order of an epoch, then the noise [B, Z] of each of its batches.
    """
    extractor.eval()
    adam = torch.optim.Adam(vae.parameters(), lr=settings.lr)
    total = 0.0
    for _ in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(x), generator=stream).split(settings.batch_size):
            noise = torch.randn(len(batch), settings.latent, generator=stream)
            loss = vae_loss(vae, extractor(images(x[batch])), noise, settings.kl_weight)
            _step(adam, loss)
            total += loss.item() * len(batch)
    return total / len(x)


def pairs(retain: int, forget: int, settings: Forget, stream: torch.Generator) -> Iterator[Pair]:
    """As many pairs of batches (positions among remaining and forgotten rows) as `settings.steps`.

    They are those that a client draws: its stream seeds a second one, for the forgotten rows.
    """
    second = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=stream)))
    size, count = settings.batch_size, settings.steps
    yield from zip(steps(retain, size, count, stream), steps(forget, size, count, second), strict=True)


def forget(
    given: Unlearning, settings: Forget, drawn: Iterable[Pair], noise: torch.Generator
) -> list[tuple[float, float]]:
    """One Adam step on L_UE, then one on L_RA, for each of `drawn`; L_UE and L_RA of every step.

    `noise` draws [B, Z] for the remaining, then for the forgotten rows of each L_UE.
    """
    student = given.extractor.eval()
    teacher = deepcopy(student)
    adam_ue = torch.optim.Adam(student.parameters(), lr=settings.lr_unlearning)
    adam_ra = torch.optim.Adam(student.parameters(), lr=settings.lr_alignment)
    losses = []
    for r, f in drawn:
        x_r, x_f = images(given.retain[r]), images(given.forget[f])
        retain = phi(given.h, student(x_r), settings, noise)
        ue = retain.sum() - phi(given.h_f, student(x_f), settings, noise).sum()
        _step(adam_ue, ue)
        d_r, d_f = (cosine_distance(student(x), teacher(x)) for x in (x_r, x_f))
        ra = torch.log(torch.exp(d_r) / torch.exp(d_f / settings.temperature).sum()).sum()
        _step(adam_ra, ra)
        losses.append((ue.item(), ra.item()))
    return losses


def phi(vae: Vae, e: Tensor, settings: Forget, stream: torch.Generator) -> Tensor:
    """exp(m / (m + 1)) [N] of the reconstruction errors m of representations e [N, D]."""
    noise = torch.randn(len(e), settings.latent, generator=stream) if settings.sampled else 0.0
    squared = (reconstruct(vae, e, noise)[0] - e) ** 2
    m = squared.sum(1) if settings.error == "sum" else squared.mean(1)
    return torch.exp(m / (m + 1))


def cosine_distance(s: Tensor, t: Tensor) -> Tensor:
    """1 - cos [N] of representations [N, D]."""
    return 1.0 - (s * t).sum(1) / torch.sqrt((s**2).sum(1) * (t**2).sum(1))


def _step(adam: torch.optim.Adam, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()
