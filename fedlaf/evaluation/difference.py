"""The difference attack: what an observer learns who sees the model before and after a request."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from fedlaf.core.seeding import numpy_stream
from fedlaf.core.types import Indices
from fedlaf.evaluation.attacks import FIGURES, Scores, figures, like_mix, log_likelihood
from fedlaf.evaluation.measures import Probabilities, js_by_row
from fedlaf.evaluation.membership import LEAF, limited_to_a_thread
from fedlaf.evaluation.predictions import Predictions
from fedlaf.evaluation.splits import LABELLED, EvaluationSplits

ITERATIONS = 20
"""Rounds of boosting: more find nothing more in some thousands of rows."""

DIFFERENCES = ("loss", "js", "trees")
"""The scores that tell forgotten rows: how much the loss rose, how far the answer moved, and a classifier."""


def difference_attack(
    before: Predictions, after: Predictions, splits: EvaluationSplits, most: int
) -> dict[str, float]:
    """AUC, TPR at 1 % FPR, in percent, of three attacks with both models' answers.

    `loss` (how much a row's loss has risen) and `js` (the divergence of its two answers) tell forgotten rows
    from unseen ones. `trees` is a classifier of three kinds, forgotten, retained and unseen, on both
    answers and their sorted and direct differences, fitted on one half of each kind; its score for
    "forgotten" tells those of the other half from both other kinds. All kinds have the class mix of the
    forgotten rows, where they have such rows; at most `most` rows of each. The control is the same attack
    on the retrained model: NaN where there are too few rows.

    Sources: Chen et al., "When machine unlearning jeopardizes privacy", CCS 2021.
    """
    rows = rows_of(splits, most)
    pairs = {kind: (before.of(kind)[at], after.of(kind)[at]) for kind, at in rows.items()}
    labels = {kind: getattr(splits, kind).y.numpy()[at] for kind, at in rows.items()}

    def risen(kind: str) -> Scores:
        old, new = (log_likelihood(answers, labels[kind]) for answers in pairs[kind])
        return np.asarray(old - new)

    found = figures("loss", risen("forget"), risen("test"), 0.0)
    found |= figures("js", js_by_row(*pairs["forget"]), js_by_row(*pairs["test"]), 0.0)
    found |= figures("trees", *_by_trees({kind: _features(*pair) for kind, pair in pairs.items()}), 0.5)
    asked = product(DIFFERENCES, FIGURES[:2])
    return {f"difference_{name}_{figure}": found[f"mia_{name}_{figure}"] for name, figure in asked}


def rows_of(splits: EvaluationSplits, most: int) -> dict[str, Indices]:
    """Positions of each kind's rows, drawn once for all models. A kind that has none of a class that is
    forgotten, as retained rows have of a removed class, is taken as it is.
    """
    stream = numpy_stream(0, "difference attack")
    order = {kind: stream.permutation(len(getattr(splits, kind))) for kind in LABELLED}
    classes = 1 + max(int(getattr(splits, kind).y.max()) for kind in LABELLED if len(order[kind]))
    wanted = np.bincount(splits.forget.y.numpy(), minlength=classes)
    for kind in ("retain", "test"):
        alike = like_mix(getattr(splits, kind).y.numpy()[order[kind]], wanted)
        order[kind] = order[kind][alike] if len(alike) else order[kind]
    return {kind: at[:most] for kind, at in order.items()}


def _features(old: Probabilities, new: Probabilities) -> npt.NDArray[np.float64]:
    """Of each row both answers, sorted as the old one, and the direct and the sorted difference: [N, 4 C]."""
    places = np.argsort(old, axis=1)
    one, other = (np.take_along_axis(answers, places, 1) for answers in (old, new))
    return np.concatenate([one, other, old - new, np.sort(old, 1) - np.sort(new, 1)], axis=1)


def _by_trees(features: dict[str, npt.NDArray[np.float64]]) -> tuple[Scores, Scores]:
    """Scores of forgotten rows, and of the others, on the half that was not fitted to."""
    if min(map(len, features.values())) < 2 * LEAF:
        return np.empty(0), np.empty(0)
    from sklearn.ensemble import HistGradientBoostingClassifier

    fitted = {kind: x[::2] for kind, x in features.items()}
    kinds = np.repeat(list(fitted), [len(x) for x in fitted.values()])
    trees = HistGradientBoostingClassifier(max_iter=ITERATIONS, early_stopping=False, random_state=0)
    with limited_to_a_thread():
        trees.fit(np.concatenate(list(fitted.values())), kinds)
        place = list(trees.classes_).index("forget")
        scores = {kind: trees.predict_proba(x[1::2])[:, place] for kind, x in features.items()}
    return scores["forget"], np.concatenate([scores["retain"], scores["test"]])
