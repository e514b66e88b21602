"""Membership attacks on a model's predictions: thresholds, boosted trees, and likelihood ratios.

An attack learns on remaining rows (members) against one half of the test rows, and is scored on
forgotten rows (members, if they were not forgotten) against rows of the other half: no row is in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import numpy.typing as npt

from fedlaf.core.seeding import numpy_stream
from fedlaf.core.types import Indices
from fedlaf.evaluation.measures import Probabilities
from fedlaf.evaluation.membership import LEAF, fitted_trees, sorted_rows
from fedlaf.evaluation.predictions import Predictions
from fedlaf.evaluation.splits import EvaluationSplits

Scores = npt.NDArray[np.float64]
"""The higher, the rather a member; [N]."""

FIGURES = ("auc", "tpr", "accuracy")
FPR = 0.01
TINY = 1e-30
GAMMA, OFFLINE = 2.0, 0.3
"""RMIA's ratio that counts, and how a likelihood without the row becomes one with and without it."""


@dataclass(frozen=True)
class Sides:
    """Positions: members and others to learn from, and members and others to be scored on."""

    known_in: Indices
    known_out: Indices
    in_: Indices
    out: Indices


def sides_of(splits: EvaluationSplits, most: int) -> Sides:
    """At most `most` rows of each side, drawn once for all models; both sides that are known are equal.

    The non-members that are scored have the class mix of the forget rows, as near as the test rows allow:
    else removing a class would measure how hard that class is.
    """
    stream = numpy_stream(0, "membership attacks")
    test = stream.permutation(len(splits.test))
    half = len(test) // 2
    known = min(len(splits.retain), half, most)
    members = stream.permutation(len(splits.retain))[:known]
    forget = stream.permutation(len(splits.forget))[:most]
    labels = splits.test.y.numpy()[test[half:]]
    wanted = np.bincount(splits.forget.y.numpy()[forget], minlength=int(labels.max(initial=0)) + 1)
    chosen = like_mix(labels, wanted[: int(labels.max(initial=0)) + 1])
    return Sides(members, test[:known], forget, test[half:][chosen][:most])


def like_mix(labels: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> Indices:
    """Positions among `labels` [N], in order, with the shares of classes that `wanted` [C] has: as many rows
    as the scarcest class that makes up at least a hundredth allows.
    """
    there = np.bincount(labels, minlength=len(wanted))
    counts = wanted > 0.01 * max(wanted.sum(), 1)
    if not counts.any():
        return np.arange(0)
    scale = float((there[counts] / wanted[counts]).min())
    most = np.minimum(np.round(scale * wanted), there).astype(int)
    place = np.array([np.count_nonzero(labels[:i] == label) for i, label in enumerate(labels)], np.int64)
    return np.flatnonzero(place < most[labels])


def membership_attacks(found: Predictions, splits: EvaluationSplits, sides: Sides) -> dict[str, float]:
    """AUC, TPR at 1 % FPR and balanced accuracy, in percent, of four attacks on one model.

    `loss` is a threshold on the label's log probability (Yeom et al., CSF 2018); `confidence` and `entropy`
    are thresholds for each class on the label's probability and on the modified entropy (Song and Mittal,
    USENIX Security 2021); `trees` is the boosted trees on sorted probabilities of Shen et al. (ICLR 2024).
    """
    measures: dict[str, float] = {}
    places = (("retain", sides.known_in), ("test", sides.known_out), ("forget", sides.in_))
    rows = [(kind, at) for kind, at in (*places, ("test", sides.out))]
    seen = [found.of(kind)[at] for kind, at in rows]
    labels = [getattr(splits, kind).y.numpy()[at] for kind, at in rows]
    for name, score in SCORES.items():
        scores = [score(p, y) for p, y in zip(seen, labels, strict=True)]
        least = threshold(scores[0], scores[1])
        if name in BY_CLASS:
            scores, least = _over_thresholds(scores, labels, least), 0.0 if not np.isnan(least) else least
        measures |= figures(name, scores[2], scores[3], least)
    return measures | figures("trees", *_by_trees(seen), 0.5)


def likelihood_ratios(
    found: Predictions, references: Sequence[Predictions], splits: EvaluationSplits, sides: Sides
) -> dict[str, float]:
    """RMIA with models that never saw a scored row: the same three figures; the threshold is one half.

    A row's score is the share of population rows z (the known half of the test rows) with
    p(x | model) / p(x) >= gamma p(z | model) / p(z), where p(x) comes from the mean over references:
    ((1 + a) p_out(x) + (1 - a)) / 2 (Zarifzadeh et al., ICML 2024, eq. 4, offline). {} without references.
    """
    if not references:
        return {}

    def ratio(kind: str, at: Indices) -> Scores:
        labels = getattr(splits, kind).y.numpy()[at]
        out = np.mean([_true(model.of(kind)[at], labels) for model in references], axis=0)
        both = ((1 + OFFLINE) * out + (1 - OFFLINE)) / 2
        return np.asarray(_true(found.of(kind)[at], labels) / both)

    population = np.sort(ratio("test", sides.known_out))

    def scores(kind: str, at: Indices) -> Scores:
        beaten = np.searchsorted(population, ratio(kind, at) / GAMMA, side="right")
        share: Scores = beaten / max(len(population), 1)
        return share

    if len(population) == 0:
        return {f"mia_rmia_{figure}": nan for figure in FIGURES}
    return figures("rmia", scores("forget", sides.in_), scores("test", sides.out), 0.5)


def figures(name: str, members: Scores, others: Scores, least: float) -> dict[str, float]:
    """AUC, TPR at no more than 1 % FPR, and balanced accuracy where `least` and more counts as member.

    In percent; NaN when there are no members or no others to be scored, or nothing was learned.
    """
    if len(members) == 0 or len(others) == 0 or np.isnan(least):
        return {f"mia_{name}_{figure}": nan for figure in FIGURES}
    from sklearn.metrics import auc, roc_curve

    truth = np.repeat([1, 0], [len(members), len(others)])
    fpr, tpr, _ = roc_curve(truth, np.concatenate([members, others]), drop_intermediate=False)
    right = (float((members >= least).mean()) + float((others < least).mean())) / 2
    values = (float(auc(fpr, tpr)), float(tpr[fpr <= FPR].max()), right)
    return {f"mia_{name}_{figure}": 100.0 * v for figure, v in zip(FIGURES, values, strict=True)}


def threshold(members: Scores, others: Scores) -> float:
    """The score from which on calling a row a member is most often right, on rows that are known.

    NaN without rows.
    """
    if len(members) == 0 or len(others) == 0:
        return nan
    from sklearn.metrics import roc_curve

    truth = np.repeat([1, 0], [len(members), len(others)])
    fpr, tpr, at = roc_curve(truth, np.concatenate([members, others]), drop_intermediate=False)
    return float(at[np.argmax(tpr - fpr)])


def _over_thresholds(scores: list[Scores], labels: list[npt.NDArray[np.int64]], whole: float) -> list[Scores]:
    """Scores minus the threshold of the row's class, learned on the known rows of both sides; of a class that
    a side lacks, minus the threshold over all classes.
    """
    classes = 1 + max((int(y.max(initial=0)) for y in labels), default=0)
    learned = [
        threshold(*(s[y == c] for s, y in zip(scores[:2], labels[:2], strict=True))) for c in range(classes)
    ]
    # An infinite threshold calls nobody a member: so does one above all known scores.
    above = 1.0 + max(float(s.max(initial=-1.0)) for s in scores[:2])
    least = np.where(np.isfinite(learned), learned, whole if np.isfinite(whole) else above)
    return [np.asarray(s - least[y]) for s, y in zip(scores, labels, strict=True)]


def _by_trees(seen: list[Probabilities]) -> tuple[Scores, Scores]:
    if min(len(seen[0]), len(seen[1])) < LEAF or min(len(seen[2]), len(seen[3])) < 1:
        return np.empty(0), np.empty(0)
    trees = fitted_trees(seen[0], seen[1])
    members, others = (trees.predict_proba(sorted_rows(p))[:, 1] for p in seen[2:])
    return members, others


def _true(probabilities: Probabilities, labels: npt.NDArray[np.int64]) -> Scores:
    found: Scores = np.maximum(probabilities[np.arange(len(labels)), labels], TINY)
    return found


def log_likelihood(probabilities: Probabilities, labels: npt.NDArray[np.int64]) -> Scores:
    """Log probability of each row's label, from probabilities [N, C] and labels [N]."""
    found: Scores = np.log(_true(probabilities, labels))
    return found


def _entropy(probabilities: Probabilities, labels: npt.NDArray[np.int64]) -> Scores:
    """Minus the modified entropy: -(1 - p_y) log p_y - sum_{i != y} p_i log(1 - p_i)."""
    own = np.arange(probabilities.shape[1]) == labels[:, None]
    p = np.where(own, 1.0 - probabilities, probabilities)
    logs = np.log(np.maximum(np.where(own, probabilities, 1.0 - probabilities), TINY))
    return np.asarray((p * logs).sum(1))


SCORES: dict[str, Callable[[Probabilities, npt.NDArray[np.int64]], Scores]] = {
    "loss": log_likelihood,
    "entropy": _entropy,
    "confidence": _true,
}
BY_CLASS = ("entropy", "confidence")
"""Attacks with a threshold for each class."""
ATTACKS = (*SCORES, "trees", "rmia")
