"""How much of each class remains, estimated without a label from two small sums over rows.

The model: a row with posterior p has label y with probability p_y, and stays with probability rho_y. What
is observed is which rows stay. So rho_c is the share of class c that remains, log rho_c the change of its log
prior, and no rho can leave [0, 1]: what EM on remaining rows alone (Saerens et al., 2002) and BBSE (Lipton et
al., ICML 2018) get wrong for young models cannot happen. See docs/laf.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

GONE = 2.0**-24
"""A share that is taken for 0 in logarithms: below it a float32 probability next to 1 is not seen."""

STILL = 1e-12
"""EM has converged when no share changes by more in a step."""

STEPS = 20_000
"""Steps of EM at most; one costs 4 C^2 multiplications."""


def soft_confusion(posteriors: Tensor, least: int = 1) -> Tensor:
    """Row a: the sum of the posteriors [N, C] of the rows that are taken for class a; [C, C], float64.

    A row of the result sums up to the number of rows behind it. One of fewer than `least` is added to the
    largest, so that no sum is of so few rows (unless all are).
    """
    wide = posteriors.double().cpu()
    classes = wide.shape[1]
    taken = wide.argmax(1)
    counts = torch.bincount(taken, minlength=classes)
    few = (counts > 0) & (counts < least)
    largest = counts.argmax()
    taken = torch.where(few[taken], largest, taken)
    return torch.zeros(classes, classes, dtype=torch.float64).index_add_(0, taken, wide)


def remaining_shares(retain: Tensor, forget: Tensor) -> Tensor:
    """The share of each class that remains [C], from the soft confusions [C, C] of both kinds of rows.

    Maximises sum_a n_a log(p_a . rho) over retain rows plus sum_a n_a log(p_a . (1 - rho)) over forget rows,
    with n_a the number of rows taken for class a and p_a their mean posterior. It is concave, so EM finds the
    one maximum: rho_c <- R_c / (R_c + F_c) with the rows of class c expected on each side.
    """
    shares = torch.full((retain.shape[1],), 0.5, dtype=torch.float64)
    for _ in range(STEPS):
        stay, go = _expected(retain, shares), _expected(forget, 1 - shares)
        updated = torch.where(stay + go > 0, stay / (stay + go).clamp_min(1e-300), shares)
        if float((updated - shares).abs().max()) < STILL:
            return updated
        shares = updated
    return shares


def _expected(confusion: Tensor, weights: Tensor) -> Tensor:
    """Rows of each class [C] that are expected on one side, where a row of class c weighs `weights[c]`."""
    weighted = confusion * weights
    whole = weighted.sum(1, keepdim=True)
    # Where nothing at all is expected, the model's own posteriors are what is left to go by.
    posterior = torch.where(whole > 0, weighted / whole.clamp_min(1e-300), confusion)
    rows = confusion.sum(1, keepdim=True)
    posterior = torch.where(whole > 0, posterior, confusion / rows.clamp_min(1e-300))
    return (rows * posterior).sum(0)


def logit_shift(shares: Tensor) -> Tensor:
    """The change of each class's log prior [C], mean 0, from the shares [C] that remain.

    Training with other class frequencies changes a model's logits by just that (logit adjustment, Menon et
    al., ICLR 2021). A class without a row left goes to log(GONE).
    """
    shift = shares.clamp_min(GONE).log()
    return shift - shift.mean()
