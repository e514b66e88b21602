"""What marks rows among those to forget, as directions of their representations, and the targets without it.

Rows that were planted (a backdoor) lie far out along one axis, seen against retain rows of the class that is
predicted for them. So the forget rows' second moment is large there, and rows beyond the retain rows'
quantile are frequent. Each side of such an axis is a kind of rows; each kind has a mark of its own, so that
unlike marks (two backdoors of different places and labels) are not taken for their mean. Sums over rows
alone, so that they can be those of all forgetting clients. All of it is ours; pure functions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedlaf.objectives.laf_closed_form import ClosedForm, unpacked
from fedlaf.objectives.laf_densities import Densities, sums_by_group, without_few
from fedlaf.objectives.laf_targets import FEW

MUCH = 9.0
"""From this variance on, three deviations, an axis bears a mark. On tuning seeds marks have 25 to 372; else
it is 1.4 to 7 but for three requests, up to 17, which the direction does not harm (docs/laf.md)."""


def axes(triangle: Tensor) -> Tensor:
    """Both sides [2 K, D] of the axes along which forget rows vary MUCH more than retain rows, from the gram
    of their deviations within classes; the variance of retain rows is 1.
    """
    moment = unpacked(triangle)[:-1, :-1] / triangle[-1].clamp_min(1)
    values, vectors = torch.linalg.eigh(moment)
    found: Tensor = vectors.T[values >= MUCH].flip(0)
    if len(found) == 0:
        return found
    # An eigenvector's sign is nobody's choice.
    sign = found.gather(1, found.abs().argmax(1, keepdim=True)).sign()
    return torch.cat([sign * found, -sign * found])


def kinds(deviations: Tensor, sides: Tensor, clip: float) -> Tensor:
    """Which of the sides [K, D] each row [N, D] is furthest out on, K where it is beyond `clip` on none."""
    if len(sides) == 0:
        return torch.zeros(len(deviations), dtype=torch.long, device=deviations.device)
    reach, which = (deviations @ sides.T).max(1)
    return torch.where(reach > clip, which, len(sides))


def kind_sums(units: Tensor, kind: Tensor, count: int, floor: int) -> Tensor:
    """The sums of (u, 1) by kind, and last over rows of none [count + 1, D + 1]; none is of fewer rows than
    the floor.
    """
    return sums_by_group(units, without_few(kind, count, floor), count + 1)


def directions(sums: Tensor, settings: ClosedForm) -> tuple[Tensor, Tensor]:
    """Which kinds [K] are marks, and from the mean of the rows that bear none to that of each, length 1.

    Marks are kinds at least twice as frequent as among retain rows. Where hardly any rows are without one the
    directions lead from the retain rows' mean, which is 0. In units whitened within classes the difference of
    means is Fisher's discriminant.
    """
    rows = float(sums[:, -1].sum())
    marks = sums[:-1, -1] >= max(2 * settings.outlier_quantile * rows, 1)
    ordinary = sums[-1]
    start = ordinary[:-1] / ordinary[-1] if ordinary[-1] > FEW * rows else torch.zeros_like(ordinary[:-1])
    found = sums[:-1][marks]
    direction = found[:, :-1] / found[:, -1:] - start
    return marks, direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-12)


def target_changes(units: Tensor, marked: Tensor, towards: Tensor, h: Densities, *, clip: float) -> Tensor:
    """The changes t - e [N, D]: each marked row's component along the one of the directions `towards` [K, D]
    in which it reaches furthest is clipped to `clip` deviations of the retain rows.
    """
    if len(towards) == 0:
        return torch.zeros_like(units)
    steps = torch.linalg.solve(h.root, towards.T).T
    scale = ((towards @ h.root) @ h.covariance * (towards @ h.root)).sum(1).sqrt().clamp_min(1e-12)
    furthest, which = (units @ towards.T / scale).max(1)
    beyond = (furthest - clip).clamp_min(0) * marked
    change: Tensor = -beyond[:, None] * (scale[:, None] * steps)[which]
    return change
