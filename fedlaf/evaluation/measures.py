"""Measures of one model, and of two models against each other: pure functions of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float64]


def accuracy(probabilities: Probabilities, labels: npt.NDArray[np.int64]) -> float:
    """Percentage of rows [N, C] whose most probable class is their label [N]; NaN without rows."""
    if len(labels) == 0:
        return float("nan")
    return 100.0 * float((probabilities.argmax(1) == labels).mean())


def backdoor_success(probabilities: Probabilities, targets: npt.NDArray[np.int64]) -> float:
    """Percentage of rows [N, C] that carry a trigger and are taken for its target [N]; NaN without rows.

    The rows are test rows of other classes than the target (Gu et al., BadNets, 2017).
    """
    if len(probabilities) == 0:
        return float("nan")
    return 100.0 * float((probabilities.argmax(1) == targets).mean())


def js_divergence(left: Probabilities, right: Probabilities) -> float:
    """Mean over rows [N, C] of the Jensen-Shannon divergence in bits, 0 to 1; NaN without rows.

    JS(p, q) = KL(p, m) / 2 + KL(q, m) / 2 with the true mixture m = (p + q) / 2 (Lin 1991).
    """
    return float(js_by_row(left, right).mean()) if len(left) else float("nan")


def js_by_row(left: Probabilities, right: Probabilities) -> npt.NDArray[np.float64]:
    """`js_divergence` of each row, [N]."""
    from scipy.special import rel_entr

    # scipy's jensenshannon is the square root of this, and rounding can make it that of -1e-17.
    mixture = (left + right) / 2.0
    bits = (rel_entr(left, mixture) + rel_entr(right, mixture)).sum(1) / (2.0 * np.log(2.0))
    return np.asarray(np.clip(bits, 0.0, 1.0))


def accuracy_by_class(
    probabilities: Probabilities, labels: npt.NDArray[np.int64], classes: int
) -> tuple[float, ...]:
    """`accuracy` on the rows of each class, 0 to `classes` - 1; NaN for a class without rows."""
    return tuple(accuracy(probabilities[labels == c], labels[labels == c]) for c in range(classes))


def tug_of_war(accuracies: Sequence[float], reference: Sequence[float]) -> float:
    """ToW: the product over kinds of rows of 1 - |accuracy - that of the retrained model|, 0 to 1.

    Accuracies in percent; 1 is the retrained model (Zhao et al., NeurIPS 2024, eq. 2).
    """
    return prod(1.0 - abs(one - other) / 100.0 for one, other in zip(accuracies, reference, strict=True))


def l2_distance(left: npt.NDArray[np.floating], right: npt.NDArray[np.floating]) -> float:
    """Mean over rows of the Euclidean distance of representations [M, D]; NaN without rows.

    The activation distance of Golatkar et al. (CVPR 2021), on what the extractor gives.
    """
    if len(left) == 0:
        return float("nan")
    return float(np.linalg.norm(left.astype(np.float64) - right.astype(np.float64), axis=1).mean())


def zero_retrain_forgetting(found: Probabilities, untrained: Probabilities) -> float:
    """ZRF: 1 - mean JS divergence to an untrained model on forgotten rows [N, C]; NaN without rows.

    Source: Chundawat et al., AAAI 2023, eq. 4.
    """
    return 1.0 - js_divergence(found, untrained)


def rho(to_retrained: float, spread: Sequence[float]) -> float:
    """Whether there is anything to forget: JS of the original model to the retrained one over the 90th
    percentile of JS between retrainings; up to 1 the original is no further than a retraining.

    NaN without retrainings, infinite when they are all the same and the original is not.
    """
    if not spread:
        return float("nan")
    scatter = float(np.percentile(spread, 90))
    if scatter > 0:
        return to_retrained / scatter
    return float("inf") if to_retrained > 0 else 0.0
