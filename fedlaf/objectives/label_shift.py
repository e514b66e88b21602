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

STEPS = 5_000
"""Steps of EM at most."""

LEVELS = 10
"""Levels of the largest probability: with so many a cell's mean posterior stands for each of its rows."""

NUMBERS = 100_000
"""Of how many numbers the sums may be: up to that, cells tell the second class apart too."""


def posterior_cells(posteriors: Tensor, least: int = 1) -> Tensor:
    """The sums of the posteriors [N, C] of rows that look alike; [cells, C], float64.

    A cell is the class that a row is taken for, the second one (where that is not too many cells), and the
    level of its probability. A row of the result sums up to the number of rows behind it. With `least`, rows
    are first put together with their neighbours in the order of cells, so that no sum is of fewer (unless
    there are none): microaggregation, as in statistical disclosure control.
    """
    wide = posteriors.double().cpu()
    rows, classes = wide.shape
    places, cells = _cells(wide)
    if rows == 0:
        return wide.new_zeros(cells, classes)
    order = places.argsort(stable=True)
    group = (torch.arange(rows) // least).clamp_max(max(rows // least - 1, 0))
    first = group * least
    return wide.new_zeros(cells, classes).index_add_(0, places[order][first], wide[order])


def _cells(posteriors: Tensor) -> tuple[Tensor, int]:
    """The cell [N] of each row, and how many cells there are."""
    classes = posteriors.shape[1]
    paired = classes > 1 and LEVELS * classes**3 <= NUMBERS
    top, taken = posteriors.topk(2 if paired else 1, dim=1)
    place = taken[:, 0]
    if paired:
        place = place * classes + taken[:, 1]
    level = (top[:, 0] * LEVELS).floor().clamp_max(LEVELS - 1).long()
    return place * LEVELS + level, classes ** (2 if paired else 1) * LEVELS


def remaining_shares(retain: Tensor, forget: Tensor) -> Tensor:
    """The share of each class that remains [C], from the sums of both kinds of rows by cell [cells, C].

    Maximises sum_a n_a log(p_a . rho) over retain rows plus sum_a n_a log(p_a . (1 - rho)) over forget rows,
    with n_a the number of rows of cell a and p_a their mean posterior. It is concave, so EM finds the one
    maximum: rho_c <- R_c / (R_c + F_c) with the rows of class c expected on each side.
    """
    sides = [side[side.sum(1) > 0] for side in (retain, forget)]
    shares = torch.full((retain.shape[1],), 0.5, dtype=torch.float64)
    for _ in range(STEPS):
        stay, go = (_expected(side, w) for side, w in zip(sides, (shares, 1 - shares), strict=True))
        # A class that nobody holds stays where it is.
        updated = torch.where(stay + go > 0, stay / (stay + go).clamp_min(1e-300), shares)
        if float((updated - shares).abs().max()) < STILL:
            return updated
        shares = updated
    return shares


def _expected(sums: Tensor, weights: Tensor) -> Tensor:
    """Rows of each class [C] that are expected on one side, where a row of class c weighs `weights[c]`."""
    weighted = sums * weights
    whole = weighted.sum(1, keepdim=True)
    # Where nothing at all is expected, the model's own posteriors are what is left to go by.
    scaled = weighted * (sums.sum(1, keepdim=True) / whole.clamp_min(1e-300))
    return torch.where(whole > 1e-300, scaled, sums).sum(0)


def logit_shift(shares: Tensor) -> Tensor:
    """The change of each class's log prior [C], mean 0, from the shares [C] that remain.

    Training with other class frequencies changes a model's logits by just that (logit adjustment, Menon et
    al., ICLR 2021). A class without a row left goes to log(GONE).
    """
    shift = shares.clamp_min(GONE).log()
    return shift - shift.mean()
