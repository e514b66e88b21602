"""The losses of Label-Agnostic Forgetting: tensors in, a scalar out.

Source: Shen, Zhang, Zhao, Bialkowski, Chen, Xu, "Label-Agnostic Forgetting: A Supervision-Free
Unlearning in Deep Models", ICLR 2024. Both losses are sums of a term over remaining rows and a
term over forgotten rows; each term is a function of its own, so that a client computes those of
the rows it holds. An empty batch gives zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedlaf.models.vae import Reconstruction


def elbo(fit: Reconstruction, kl_weight: float) -> Tensor:
    """The VAE's loss: mean over the batch of sum_d (decoded - target)^2, plus kl_weight times KL.

    KL is that of N(mean, exp(log_variance)) to N(0, 1), summed over Z, mean over the batch.
    """
    if len(fit.target) == 0:
        return fit.decoded.sum()
    squared = (fit.decoded - fit.target).square().sum(1).mean()
    kl = 0.5 * (fit.mean.square() + fit.log_variance.exp() - 1.0 - fit.log_variance).sum(1).mean()
    return squared + kl_weight * kl


def reconstruction_error(fit: Reconstruction, reduction: str) -> Tensor:
    """M [N]: the squared reconstruction error of each row, `sum` (published) or `mean` over D."""
    squared = (fit.decoded - fit.target).square()
    return squared.sum(1) if reduction == "sum" else squared.mean(1)


def score(error: Tensor) -> Tensor:
    """phi(m) = exp(m / (m + 1)), elementwise, in [1, e) for m >= 0."""
    return torch.exp(error / (error + 1.0))


def unlearning_retain(error: Tensor) -> Tensor:
    """The term of L_UE over remaining rows: sum of phi(m(x; h)), errors [N]."""
    return score(error).sum()


def unlearning_forget(error: Tensor, weights: Tensor | None = None) -> Tensor:
    """The term of L_UE over forgotten rows: -sum_j w_j phi(m(x_j; h_f)), errors [N].

    `weights` [N] are ours; without them the term is the published one, w = 1.
    """
    return -(score(error) if weights is None else weights * score(error)).sum()


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """D [N] = 1 - cos(e_U(x), e_D(x)) of representations [N, D], in [0, 2]."""
    return 1.0 - torch.cosine_similarity(student, teacher, dim=1)


def relative_distance(student: Tensor, target: Tensor) -> Tensor:
    """|student - target|^2 / |target|^2 [N] of representations [N, D]: it sees lengths."""
    return (student - target).square().sum(1) / target.square().sum(1).clamp_min(1e-12)


def alignment_retain(distance: Tensor) -> Tensor:
    """The term of L_RA over remaining rows: sum of d_i, distances [N]."""
    return distance.sum()


def alignment_forget(
    distance: Tensor, retain: int, temperature: float, weights: Tensor | None = None
) -> Tensor:
    """The term of L_RA over forgotten rows: -|B_r| log sum_j w_j exp(d_j / tau), distances [N].

    `retain` is |B_r|, the number of remaining rows in the step. `weights` [N] are ours; without
    them the term is the published one, w = 1.
    """
    if len(distance) == 0:
        return distance.sum()
    exponent = distance / temperature
    if weights is not None:
        # The floor keeps a row of weight 0 out without an infinite gradient.
        exponent = exponent + torch.log(weights.clamp_min(1e-9))
    return -retain * torch.logsumexp(exponent, dim=0)
