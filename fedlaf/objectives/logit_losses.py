"""Losses on logits, of the methods that LAF is compared with: tensors in, one number a row out."""

from __future__ import annotations

import torch
from torch import Tensor


def divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) [N] of logits [N, C], both softened by `temperature`, times its square.

    The square keeps gradients of one size at any temperature (Hinton et al., 2015, section 2).
    """
    wanted = (teacher / temperature).log_softmax(1)
    given = (student / temperature).log_softmax(1)
    return temperature**2 * (wanted.exp() * (wanted - given)).sum(1)


def unlearning_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-sum_c y_c log(1 - p_c / 2) [N] of logits [N, C] and labels [N].

    It falls to 0 with the label's probability and is log 2 at most, unlike a cross-entropy that is
    ascended (Pan et al., AAAI 2025, the unlearning cross-entropy).
    """
    probability = logits.softmax(1).gather(1, labels[:, None]).squeeze(1)
    return -torch.log1p(-probability / 2)


def without_class(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits [N, C] with the label's [N] at the least number there is: the best of the others leads."""
    return logits.scatter(1, labels[:, None], torch.finfo(logits.dtype).min)


def lowered(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits [N, C] with the label's [N] as low as the row's lowest: no class is likelier than before but
    by what the label loses.
    """
    return logits.scatter(1, labels[:, None], logits.amin(1, keepdim=True))


def mean(losses: Tensor) -> Tensor:
    """The mean of losses [N], 0 without any."""
    return losses.sum() / max(len(losses), 1)
