"""How much of each class remains, estimated without a label from sums of posteriors.

The model: a row with posterior p has label y with probability p_y, and stays with probability rho_y. What
is observed is which rows stay. So rho_c is the share of class c that remains, log rho_c the change of its log
prior, and no rho can leave [0, 1]: what EM on remaining rows alone (Saerens et al., 2002) and BBSE (Lipton et
al., ICML 2018) get wrong for young models cannot happen. See docs/laf.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

GONE = 2.0**-24
"""What a share of 0 is in logarithms: below it a float32 probability next to 1 is not seen."""

STILL = 1e-12
"""EM has converged when no share changes by more in a step."""

STEPS = 5_000
"""Steps of EM at most."""

FEW_ROWS = 10
"""From fewer rows of a class than that, among all others, a model does not learn it."""

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

    The geometric mean of the likeliest and the counted shares. The former take the model to be calibrated on
    both kinds of rows alike; under skew they are too extreme, because it is surer of the
    forgetting client's rows than of others' of the same class. The latter leave all confusions in, and are
    too mild. A class of which few rows are left, and not the most of it, is gone: 0.
    """
    likeliest = likeliest_shares(retain, forget)
    left = _expected(retain[retain.sum(1) > 0], likeliest)
    gone = (left < FEW_ROWS) & (likeliest < 0.5)
    return (likeliest * counted_shares(retain, forget)).sqrt().masked_fill(gone, 0.0)


def counted_shares(retain: Tensor, forget: Tensor) -> Tensor:
    """The shares [C] of the posteriors' sums, as if no posterior were in doubt: the first step of EM."""
    return _share(retain.sum(0), forget.sum(0))


def likeliest_shares(retain: Tensor, forget: Tensor) -> Tensor:
    """The shares [C] that make it likeliest that these rows stay and those go.

    Maximises sum_a n_a log(p_a . rho) over retain rows plus sum_a n_a log(p_a . (1 - rho)) over forget rows,
    with n_a the number of rows of cell a and p_a their mean posterior, and one row more of each class on
    either side. It is concave, so EM finds the one maximum from the rows of each class that are expected on
    each side.
    """
    sides = [side[side.sum(1) > 0] for side in (retain, forget)]
    shares = torch.full((retain.shape[1],), 0.5, dtype=torch.float64)
    for _ in range(STEPS):
        stay, go = (_expected(side, w) for side, w in zip(sides, (shares, 1 - shares), strict=True))
        updated = _share(stay, go)
        if float((updated - shares).abs().max()) < STILL:
            return updated
        shares = updated
    return shares


def _share(stay: Tensor, go: Tensor) -> Tensor:
    """Laplace's rule of succession: neither 0 nor 1 after any finite number of rows."""
    return (stay + 1) / (stay + go + 2)


def _expected(sums: Tensor, weights: Tensor) -> Tensor:
    """Rows of each class [C] that are expected on one side, where a row of class c weighs `weights[c]`."""
    weighted = sums * weights
    return (weighted * (sums.sum(1, keepdim=True) / weighted.sum(1, keepdim=True))).sum(0)


def logit_shift(shares: Tensor) -> Tensor:
    """The change of each class's log prior [C], mean 0, from the shares [C] that remain.

    Training with other class frequencies changes a model's logits by just that (logit adjustment, Menon et
    al., ICLR 2021).
    """
    shift = shares.clamp_min(GONE).log()
    return shift - shift.mean()
