"""What marks outliers among forget rows, as directions in whitened units, and the targets without it.

One mark is one direction: from the ordinary to the outlier rows. Marked rows that are no outliers are not
ordinary either: at first only rows with a typical error count as such, then all that the first direction
leaves as they are. Two unlike marks (two backdoors of different places and labels) have a mean that is
neither; without it their rows are still outliers, which is how they are told. Sums over rows alone, so that
they can be those of all forgetting clients. All of it is ours; pure functions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedlaf.objectives.laf_closed_form import ClosedForm, Whitening, unpacked, with_one
from fedlaf.objectives.laf_targets import FEW


def outlier_sums(units: Tensor, outlier: Tensor, ordinary: Tensor) -> Tensor:
    """The sums of (z, 1) over outliers and over ordinary rows: [2, D + 1]."""
    return _sums_of(units, [outlier, ordinary])


def outlier_direction(sums: Tensor, rows: float, settings: ClosedForm) -> Tensor:
    """The direction [1, D] from the ordinary to the outlier rows in whitened units, length 1.

    None, [0, D], where outliers among so many forget `rows` are not at least twice as frequent as among
    retain rows. Where hardly any rows are ordinary it leads from the retain rows' mean, which is 0. In
    whitened coordinates the difference of means is Fisher's discriminant.
    """
    many = float(sums[0, -1])
    if many == 0 or not settings.frequent(many, rows):
        return sums.new_empty(0, sums.shape[1] - 1)
    return _directions(sums[:1], sums[1], rows)


def division(triangle: Tensor) -> Tensor:
    """Where outliers divide into two kinds, from the gram of their units [M, D]: their mean and the axis
    along which they differ most, [2, D] (principal direction divisive partitioning, Boley, 1998).
    """
    moments = unpacked(triangle) / triangle[-1].clamp_min(1)
    mean = moments[-1, :-1]
    axis = torch.linalg.eigh(moments[:-1, :-1] - torch.outer(mean, mean)).eigenvectors[:, -1]
    largest = axis[axis.abs().argmax()]  # an eigenvector's sign is nobody's choice
    return torch.stack([mean, axis * torch.sign(largest)])


def divided_sums(units: Tensor, outlier: Tensor, one: Tensor, where: Tensor, settings: ClosedForm) -> Tensor:
    """The sums of (z, 1) over the outliers beyond the division `where` [2, D], over those before it and over
    ordinary rows, now all others that the direction `one` [1, D] leaves as they are: [3, D + 1].

    Few rows on a side count to the other: no sum is of fewer rows than the floor.
    """
    mean, axis = where
    beyond = outlier & ((units - mean) @ axis > 0)
    counts = int(beyond.sum()), int((outlier & ~beyond).sum())
    if 0 < min(counts) < settings.floor:
        beyond = outlier if counts[0] > counts[1] else torch.zeros_like(outlier)
    marked = (units @ one.T > settings.clip).any(1)
    sums = _sums_of(units, [beyond, outlier & ~beyond, ~outlier & ~marked])
    return sums.masked_fill(sums[:, -1:] < settings.floor, 0.0)


def final_directions(sums: Tensor, left: float, rows: float, settings: ClosedForm) -> Tensor:
    """One direction [1, D], or two from the `sums` of divided outliers where they bear unlike marks: where of
    so many forget `rows` as many are `left` as would still be frequent outliers without the one.
    """
    kinds = sums[:2][sums[:2, -1] > 0]
    unlike = len(kinds) == 2 and settings.frequent(left, rows)
    return _directions(kinds if unlike else kinds.sum(0, keepdim=True)[: len(kinds)], sums[2], rows)


def _sums_of(units: Tensor, groups: list[Tensor]) -> Tensor:
    extended = with_one(units)
    return torch.stack([extended[group].sum(0) for group in groups])


def _directions(groups: Tensor, ordinary: Tensor, rows: float) -> Tensor:
    """From the mean of ordinary rows to that of each of the groups [K, D + 1], length 1."""
    few = ordinary[-1]
    start = ordinary[:-1] / few if few >= FEW * rows and few > 0 else torch.zeros_like(ordinary[:-1])
    direction = groups[:, :-1] / groups[:, -1:] - start
    unit: Tensor = direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return unit


def target_changes(
    units: Tensor, outlier: Tensor, directions: Tensor, h: Whitening, *, clip: float
) -> Tensor:
    """The changes t - e [N, D]: each outlier's component along the one of the directions [K, D] in which it
    reaches furthest is clipped to `clip`.
    """
    if len(directions) == 0:
        return torch.zeros_like(units)
    furthest, which = torch.stack([units @ direction for direction in directions]).max(0)
    beyond = (furthest - clip).clamp_min(0) * outlier
    steps = torch.stack([torch.linalg.solve(h.root, direction) for direction in directions])
    change: Tensor = -beyond[:, None] * steps[which]
    return change
