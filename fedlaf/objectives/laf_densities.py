"""h of LAF in closed form: one Gaussian for each class that the model predicts, all of one covariance.

A mark moves rows along one direction, which shows against rows of the same predicted class and hardly against
all rows, whose spread is mostly that between classes. Predictions are the model's, so no label is read. All
from sums over rows; pure functions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fedlaf.objectives.laf_closed_form import gram, unpacked, with_one

SHRINKAGE = 0.1
"""How much of h's covariance is replaced by a multiple of the identity of the same trace, as in Gaussian."""


class Densities(NamedTuple):
    """Of retain rows: mean [D] and covariance [D, D] of all; means by class [C, D]; symmetric inverse root
    [D, D] of the shrunk covariance within classes. All float64.
    """

    mean: Tensor
    covariance: Tensor
    means: Tensor
    root: Tensor

    def units(self, e: Tensor) -> Tensor:
        """Deviations [N, D] of representations [N, D] from the mean of all, whitened within classes."""
        return (e.double() - self.mean) @ self.root

    def within(self, e: Tensor, predicted: Tensor) -> Tensor:
        """Deviations [N, D] from the means of the `predicted` classes [N], whitened within classes."""
        return (e.double() - self.means[predicted]) @ self.root


def without_few(group: Tensor, groups: int, floor: int) -> Tensor:
    """Groups [N] of rows, of which none is of fewer rows than the floor: rows of such groups are of the
    rest, numbered `groups`; a rest of too few rows counts to the largest group.
    """
    counts = torch.bincount(group, minlength=groups + 1)
    found = torch.where(counts[group] < floor, torch.full_like(group, groups), group)
    rest = found == groups
    if 0 < int(rest.sum()) < floor:
        found = torch.where(rest, counts[:groups].argmax(), found)
    return found


def sums_by_group(rows: Tensor, group: Tensor, groups: int) -> Tensor:
    """The sums of (x, 1) over rows [N, D] of each group: [groups, D + 1]."""
    extended = with_one(rows)
    sums = extended.new_zeros(groups, extended.shape[1])
    return sums.index_add_(0, group, extended)


def class_sums(rows: Tensor, predicted: Tensor, classes: int, floor: int) -> tuple[Tensor, Tensor]:
    """The sums of (x, 1) by predicted class [C, D + 1], and the gram of the rows [N, D] behind them: those of
    classes of which there are fewer than the floor are left out.
    """
    group = without_few(predicted, classes, floor)
    return sums_by_group(rows, group, classes + 1)[:classes], gram(rows[group < classes])


def densities(all_rows: Tensor, of_classes: Tensor, by_class: Tensor) -> Densities:
    """H from the gram of all retain rows' representations, that of those in `by_class`, and their sums.

    A class of no rows has the mean of all. Where no class has enough rows h is one Gaussian.
    """
    mean, covariance = _moments(all_rows)
    counts = by_class[:, -1:]
    means = torch.where(counts > 0, by_class[:, :-1] / counts.clamp_min(1e-12), mean)
    inside = covariance
    if counts.sum() > 0:
        second = unpacked(of_classes)[:-1, :-1] / of_classes[-1]
        inside = second - (means * counts / counts.sum()).T @ means
    return Densities(mean, covariance, means, inverse_root(inside))


def inverse_root(covariance: Tensor) -> Tensor:
    """The symmetric inverse root [D, D] of a covariance, shrunk as in `fedlaf.models.Gaussian`."""
    level = covariance.diagonal().mean().clamp_min(1e-12)
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    values, vectors = torch.linalg.eigh((1 - SHRINKAGE) * covariance + SHRINKAGE * level * identity)
    root: Tensor = (vectors * values.clamp_min(float(SHRINKAGE * level)).rsqrt()) @ vectors.T
    return root


def _moments(triangle: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] from a gram."""
    moments = unpacked(triangle) / triangle[-1]
    mean = moments[-1, :-1]
    return mean, moments[:-1, :-1] - torch.outer(mean, mean)
