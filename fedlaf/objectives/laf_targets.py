"""Where forgotten rows should go: their representations without what is special about them.

Published LAF drives forgotten rows away from where they are, without a goal. Ours gives each row a
goal, found without a label: a representation that the retrained model could have given it. Then
forgetting is alignment on both sides, which ends by itself. All of it is ours; pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlaf.core.errors import require, require_count, require_number
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
class Aim:
    """How goals are found.

    A forgotten row is odd when its reconstruction error under h is above that of all but `tail` of
    the remaining rows. Where odd rows are at least twice as frequent as among remaining ones, what
    they have in common is taken out, up to `reach` times of it. `strength` and `against` scale the
    shift of classes (see `class_shift`); with 0 for both there is none.
    """

    tail: float = 0.05
    special: bool = True
    reach: float = 1.5
    strength: float = 2.5
    against: float = 2.0
    threshold: float = 0.0
    latent: int = 8
    decoder: str = "linear"
    error: str = "mean"
    density: str = "vae"

    def __post_init__(self) -> None:
        require_number("tail", self.tail, above=0, at_most=0.5)
        require_number("reach", self.reach, above=0)
        require_number("strength", self.strength, at_least=0)
        require_number("against", self.against, at_least=0)

    def odd(self, errors: Tensor) -> Tensor:
        """Which rows [N] are odd, from their errors [N]; none unless they are frequent."""
        odd = errors > self.threshold
        frequent = len(odd) > 0 and float(odd.float().mean()) >= 2 * self.tail
        return odd if self.special and frequent else torch.zeros_like(odd)

    @torch.no_grad()
    def goals(self, teacher: Tensor, h: Density) -> tuple[Tensor, Tensor]:
        """Goals [N, D] of forgotten rows with the teacher's representations [N, D], and who is odd [N]."""
        odd = self.odd(laf_losses.reconstruction_error(h(teacher), self.error))
        units = (teacher - h.shift) / h.scale
        return without_special_part(units, odd, self.reach) * h.scale + h.shift, odd


@dataclass(frozen=True)
class Align:
    """Local steps of alignment: Adam on the sum of the distances to the goals.

    `distance` `cosine` is that of LAF's L_RA; `relative`, |student - goal|^2 / |goal|^2, holds the
    length too, and with it how sure the model is. `leads` marks the steps that forgetting clients
    take alone, which draw their batches from a stream of their own.
    """

    lr: float = 1e-3
    distance: str = "relative"
    batch_size: int = 32
    steps: int = 10
    leads: bool = False

    def __post_init__(self) -> None:
        require_number("lr", self.lr, above=0)
        known = self.distance in DISTANCES
        require(known, "distance", " or ".join(DISTANCES), self.distance)
        require_count("batch_size", self.batch_size)
        require_count("steps", self.steps)

    def distances(self, student: Tensor, goals: Tensor) -> Tensor:
        """Distances [N] of representations [N, D] to their goals [N, D]."""
        return DISTANCES[self.distance](student, goals)


def without_special_part(units: Tensor, odd: Tensor, reach: float) -> Tensor:
    """Representations [N, D] in units of the remaining rows' deviation, without what odd rows [N] share.

    The special direction leads from the mean of the ordinary rows (of all remaining rows, 0, where
    there are hardly any) to that of the odd ones. An odd row loses its component along it, at most
    `reach` times what lies between the two means, never less than nothing.
    """
    if not odd.any():
        return units
    few = float((~odd).float().mean()) < FEW
    ordinary = torch.zeros_like(units[0]) if few else units[~odd].mean(0)
    special = units[odd].mean(0) - ordinary
    length = special.norm()
    if length == 0:
        return units
    along = ((units - ordinary) @ (special / length)).clamp(torch.zeros_like(length), reach * length)
    goal: Tensor = units - (along * odd)[:, None] * (special / length)
    return goal


def votes(logits: Tensor, odd: Tensor) -> Tensor:
    """For each class [C], what rows with these logits [N, C] said for it when they were trained on.

    A row speaks for the class that the model takes it for, with 1; where the model gives that class
    a probability p below 1/2, most labels of such rows said otherwise, and the vote is 2 p - 1 < 0. Of
    odd rows [N], whose goals are a guess, doubt says nothing: they do not vote against.
    """
    probability, taken = logits.softmax(1).max(1)
    vote = torch.where(probability >= 0.5, torch.ones_like(probability), 2 * probability - 1)
    vote = torch.where(odd, vote.clamp_min(0), vote)
    return logits.new_zeros(logits.shape[1]).index_add_(0, taken, vote)


def class_shift(remaining: Tensor, forgotten: Tensor, strength: float, against: float) -> Tensor:
    """By how much each class's logit [C] changes when forgotten rows take their votes back; mean 0.

    With the odds o = f / (r + 1) of positive votes f of the forgotten and r of the remaining rows it is
    -strength * o up to KNEE and -strength * KNEE * (1 + log(o / KNEE)) beyond, at most MOST strengths; votes
    against a class raise it, +against * |f| / (r + 1), at most by `against`: a class may vanish, but not take
    over. Where few rows go it is, with strength 1, the change of the log prior, log(r / (r + f)); trained
    networks are surer than their priors, so the strength is more, and a class that keeps no row must go.
    """
    odds = forgotten / (remaining.clamp_min(0) + 1.0)
    beyond = KNEE * (1 + (odds / KNEE).clamp_min(1.0).log())
    less = -strength * torch.minimum(odds, beyond).clamp(0.0, MOST)
    more = -against * odds.clamp(-1.0, 0.0)
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
