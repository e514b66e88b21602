"""How much of each class remains, estimated without a label from counts of predictions.

What is observed is which rows stay and which go. Among the rows that a model is surest of confusions are
rare, so the share of them that stays is the share rho_c of class c that does, and log rho_c the change of its
log prior. No rho can leave [0, 1]: what EM on remaining rows alone (Saerens et al., 2002) and BBSE (Lipton et
al., ICML 2018) get wrong for young models cannot happen; nor must posteriors be right, only rank rows. See
docs/laf.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

GONE = 2.0**-24
"""What a share of 0 is in logarithms: below it a float32 probability next to 1 is not seen."""

SUREST = 0.25
"""Which part of the rows that are predicted as a class its share is read from: the surest."""

LEAST_ROWS = 20
"""From how many rows at least, where there are so many."""

FEW_ROWS = 10
"""From fewer rows of a class than that, among all others, a model does not learn it."""

VANISHING = 0.5
"""Of a class that is gone only confusions stay, and these thin out with sureness: among the surest rows the
share that stays is below so much of what it is among all that are predicted as the class.
"""

LOWEST, WIDTH, LEVELS = -4.0, 0.25, 128
"""Levels of log odds: of even width, from `LOWEST`; the first and the last are open."""


def sureness(posteriors: Tensor, changed: Tensor | None = None) -> Tensor:
    """How many of the rows with posteriors [N, C] are predicted as a class, by log odds of it: [C, LEVELS]
    in float64.

    Rows that are predicted otherwise by `changed` [N, C] count there. The others are as sure as they were,
    since a row that loses a direction is less sure of its class than rows that keep it.
    """
    wide = posteriors.double().cpu()
    if changed is not None:
        other = changed.double().cpu()
        alike = wide.argmax(1) == other.argmax(1)
        wide = torch.where(alike[:, None], wide, other)
    classes = wide.shape[1]
    top, predicted = wide.max(1)
    others = wide.scatter(1, predicted[:, None], 0.0).sum(1)
    odds = top.log() - others.clamp_min(torch.finfo(wide.dtype).tiny).log()
    level = ((odds - LOWEST) / WIDTH).floor().clamp(0, LEVELS - 1).long()
    counts = torch.bincount(predicted * LEVELS + level, minlength=classes * LEVELS)
    return counts.double().view(classes, LEVELS)


def remaining_shares(retain: Tensor, forget: Tensor) -> Tensor:
    """The share of each class that remains [C], from the counts [C, LEVELS] of rows that stay and that go.

    It is read from the surest rows, with one row more that stays as often as all rows do. A class is gone, 0,
    where only confusions stay, or few rows and not the most of it.
    """
    both = retain + forget
    of_class = both.sum(1).clamp_min(1.0)
    stay, rows = _surest(retain, both)
    share = stay / rows.clamp_min(1.0)
    confused = share < VANISHING * retain.sum(1) / of_class
    few = (share * of_class < FEW_ROWS) & (share < 0.5) & (rows > 0)
    all_stay = retain.sum() / both.sum().clamp_min(1.0)
    return ((stay + all_stay) / (rows + 1)).masked_fill(confused | few, 0.0)


def _surest(retain: Tensor, both: Tensor) -> tuple[Tensor, Tensor]:
    """How many of the surest rows of each class stay, and how many there are; of the level that is needed in
    part the same part of each kind counts.
    """
    rows = torch.minimum(both.sum(1), (SUREST * both.sum(1)).clamp_min(LEAST_ROWS))
    surer = both.flip(1).cumsum(1).flip(1) - both
    part = ((rows[:, None] - surer) / both.clamp_min(1e-12)).clamp(0.0, 1.0)
    return (part * retain).sum(1), rows


def logit_shift(shares: Tensor) -> Tensor:
    """The change of each class's log prior [C], mean 0, from the shares [C] that remain.

    Training with other class frequencies changes a model's logits by just that (logit adjustment, Menon et
    al., ICLR 2021).
    """
    shift = shares.clamp_min(GONE).log()
    return shift - shift.mean()
