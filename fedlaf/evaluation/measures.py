"""Measures of one model, and of two models against each other: pure functions of predictions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float64]


def accuracy(probabilities: Probabilities, labels: npt.NDArray[np.int64]) -> float:
    """Percentage of rows [N, C] whose most probable class is their label [N]; NaN without rows."""
    if len(labels) == 0:
        return float("nan")
    return 100.0 * float((probabilities.argmax(1) == labels).mean())


def backdoor_success(probabilities: Probabilities, target: int) -> float:
    """Percentage of rows [N, C] that carry the trigger and are taken for `target`; NaN without rows.

    The rows are test rows of other classes than the target (Gu et al., BadNets, 2017).
    """
    if len(probabilities) == 0:
        return float("nan")
    return 100.0 * float((probabilities.argmax(1) == target).mean())


def js_divergence(left: Probabilities, right: Probabilities) -> float:
    """Mean over rows [N, C] of the Jensen-Shannon divergence in bits, 0 to 1; NaN without rows.

    JS(p, q) = KL(p, m) / 2 + KL(q, m) / 2 with the true mixture m = (p + q) / 2 (Lin 1991).
    """
    if len(left) == 0:
        return float("nan")
    from scipy.special import rel_entr

    # scipy's jensenshannon is the square root of this, and rounding can make it that of -1e-17.
    mixture = (left + right) / 2.0
    bits = (rel_entr(left, mixture) + rel_entr(right, mixture)).sum(1) / (2.0 * np.log(2.0))
    return float(np.clip(bits, 0.0, 1.0).mean())
