"""Where forgotten rows should go: their representations without what is special about them.

Published LAF drives forgotten rows away from where they are, without a target. Ours gives each row a
target, found without a label: a representation that the retrained model could have given it. Then
forgetting is alignment on both sides, which ends by itself. All of it is ours; pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlaf.core.errors import require, require_count, require_number
from fedlaf.core.settings import internal, require_effect
from fedlaf.models import Density
from fedlaf.objectives import laf_losses

KNEE = 0.6
"""Odds of forgotten to remaining rows up to which a class shifts in proportion; beyond, logarithmically."""

MOST = 5.0
"""By how many strengths a class shifts at most: with these it is gone."""

FEW = 0.05
"""Below this share of ordinary rows, forgotten rows are contrasted with the mean of the remaining ones."""


DISTANCES = {"relative": laf_losses.relative_distance, "cosine": laf_losses.cosine_distance}


@dataclass(frozen=True)
class TargetRule:
    """How targets of forget rows are found.

    A forget row is an outlier when its reconstruction error under h is above that of all but a share
    `outlier_quantile` of the retain rows. Where outliers are at least twice as frequent as among retain rows,
    their common direction is projected out, up to `max_projection` times their mean component along it.
    `strength` and `negative_weight` scale the shift of classes (see `class_shift`); 0 for both is none.
    """

    outlier_quantile: float = 0.05
    project_outliers: bool = True
    max_projection: float = 1.5
    strength: float = 2.5
    negative_weight: float = 2.0
    threshold: float = internal(0.0)
    latent: int = internal(8)
    decoder: str = internal("linear")
    error: str = internal("mean")
    density: str = internal("vae")

    def __post_init__(self) -> None:
        require_number("outlier_quantile", self.outlier_quantile, above=0, at_most=0.5)
        require_number("max_projection", self.max_projection, above=0)
        require_number("strength", self.strength, at_least=0)
        require_number("negative_weight", self.negative_weight, at_least=0)
        require_effect(self, "max_projection", when="project_outliers=true", holds=self.project_outliers)

    def outlier(self, errors: Tensor) -> Tensor:
        """Which rows [N] are outliers, from their errors [N]; none unless they are frequent."""
        outlier = errors > self.threshold
        frequent = len(outlier) > 0 and float(outlier.float().mean()) >= 2 * self.outlier_quantile
        return outlier if self.project_outliers and frequent else torch.zeros_like(outlier)

    @torch.no_grad()
    def targets(self, teacher: Tensor, h: Density) -> tuple[Tensor, Tensor]:
        """Targets [N, D] of forget rows from their representations `teacher` [N, D], and the outliers [N]."""
        outlier = self.outlier(laf_losses.reconstruction_error(h(teacher), self.error))
        units = (teacher - h.shift) / h.scale
        return without_outlier_direction(units, outlier, self.max_projection) * h.scale + h.shift, outlier


@dataclass(frozen=True)
class Alignment:
    """Local steps of alignment: Adam on the sum of the distances to the targets.

    `distance` `cosine` is that of LAF's L_RA; `relative`, |student - target|^2 / |target|^2, holds the
    length too, and with it how sure the model is.
    """

    lr: float = 1e-3
    distance: str = "relative"
    batch_size: int = 32
    steps: int = 10

    def __post_init__(self) -> None:
        require_number("lr", self.lr, above=0)
        known = self.distance in DISTANCES
        require(known, "distance", " or ".join(DISTANCES), self.distance)
        require_count("batch_size", self.batch_size)
        require_count("steps", self.steps)

    def distances(self, student: Tensor, targets: Tensor) -> Tensor:
        """Distances [N] of representations [N, D] to their targets [N, D]."""
        return DISTANCES[self.distance](student, targets)


def without_outlier_direction(units: Tensor, outlier: Tensor, max_projection: float) -> Tensor:
    """Representations [N, D] in units of the remaining rows' deviation, without what outliers [N] share.

    The special direction leads from the mean of the ordinary rows (of all remaining rows, 0, where
    there are hardly any) to that of the outliers. An outlier loses its component along it, at most
    `max_projection` times what lies between the two means, never less than nothing.
    """
    if not outlier.any():
        return units
    few = float((~outlier).float().mean()) < FEW
    ordinary = torch.zeros_like(units[0]) if few else units[~outlier].mean(0)
    special = units[outlier].mean(0) - ordinary
    length = special.norm()
    if length == 0:
        return units
    along = ((units - ordinary) @ (special / length)).clamp(torch.zeros_like(length), max_projection * length)
    target: Tensor = units - (along * outlier)[:, None] * (special / length)
    return target


def predicted_counts(logits: Tensor, outlier: Tensor) -> Tensor:
    """For each class [C], how many rows with these logits [N, C] were trained on as that class, estimated.

    A row counts 1 for its predicted class; where the model gives that class a probability p below 1/2, most
    labels of such rows were others, and it counts 2 p - 1 < 0. Outliers [N], whose targets are a guess, never
    count negatively.
    """
    probability, taken = logits.softmax(1).max(1)
    counted = torch.where(probability >= 0.5, torch.ones_like(probability), 2 * probability - 1)
    counted = torch.where(outlier, counted.clamp_min(0), counted)
    return logits.new_zeros(logits.shape[1]).index_add_(0, taken, counted)


def class_shift(remaining: Tensor, forget: Tensor, strength: float, negative_weight: float) -> Tensor:
    """By how much each class's logit [C] changes when the forget rows' counts are taken back; mean 0.

    With the odds o = f / (r + 1) of positive counts f of the forget and r of the retain rows it is
    -strength * o up to KNEE and -strength * KNEE * (1 + log(o / KNEE)) beyond, at most MOST strengths; a
    negative count raises the class, +negative_weight * |f| / (r + 1), at most by `negative_weight`. Where few
    rows go it is, with strength 1, the change of the log prior, log(r / (r + f)); trained networks are surer
    than their priors, so the strength is more, and a class that keeps no row must go.
    """
    odds = forget / (remaining.clamp_min(0) + 1.0)
    beyond = KNEE * (1 + (odds / KNEE).clamp_min(1.0).log())
    less = -strength * torch.minimum(odds, beyond).clamp(0.0, MOST)
    more = -negative_weight * odds.clamp(-1.0, 0.0)
    shift = less + more
    return shift - shift.mean()


@torch.no_grad()
def shift_of_representations(head: nn.Module, shift: Tensor, anchor: Tensor) -> Tensor:
    """The smallest change [D] of a representation that changes the head's logits by `shift` [C].

    Exact for a linear head; else for the head's linear part at the representation `anchor` [D].
    """
    slope = torch.func.jacrev(head)(anchor)
    change: Tensor = torch.linalg.pinv(slope) @ shift
    return change
