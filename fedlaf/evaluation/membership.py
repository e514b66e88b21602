"""Membership inference on a model's predictions: what LAF's authors report as ASR."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlaf.core.seeding import numpy_stream
from fedlaf.evaluation.measures import Probabilities

PROTOCOLS = ("split", "paper")
MOST = 5000
"""Rows of each kind that the attack is trained on (Shen et al., ICLR 2024)."""
LEAF = 20
"""Rows that a leaf of the histogram trees holds at least: with fewer of each kind they cannot split."""


def attack_success(retain: Probabilities, forget: Probabilities, test: Probabilities, protocol: str) -> float:
    """ASR: percentage that an attack gets right of forgotten rows (members) and as many test rows.

    Gradient-boosted trees (100) on the sorted softmax [N, C] learn to tell remaining rows from test
    rows (Shen et al., ICLR 2024). `split` trains on one half of the test rows and scores on the other;
    `paper` draws the scored test rows from all of them, trained on or not, as published. NaN when a
    kind has too few rows: the attack needs 20 of each to be trained on. 50 is a coin.
    """
    stream = numpy_stream(0, "membership")
    order = stream.permutation(len(test))
    count = min(MOST, len(retain), len(test) // 2)
    scored_test = order[count:] if protocol == "split" else stream.permutation(len(test))
    scored = min(len(forget), len(scored_test))
    if count < LEAF or scored < 1:
        return float("nan")
    members = retain[stream.choice(len(retain), count, replace=False)]
    attack = _trees(protocol)
    attack.fit(sorted_rows(members, test[order[:count]]), np.repeat([1, 0], count))
    chosen = stream.choice(len(forget), scored, replace=False)
    guessed = attack.predict(sorted_rows(forget[chosen], test[scored_test[:scored]]))
    return 100.0 * float((guessed == np.repeat([1, 0], scored)).mean())


def fitted_trees(members: Probabilities, others: Probabilities) -> Any:
    """Histogram trees that tell the predictions of `members` [N, C] from those of `others` (class 0)."""
    trees = _trees("split")
    with limited_to_a_thread():
        return trees.fit(sorted_rows(members, others), np.repeat([1, 0], [len(members), len(others)]))


def limited_to_a_thread() -> AbstractContextManager[Any]:
    """So few rows are no work for several threads, which on a busy machine wait for each other."""
    from threadpoolctl import threadpool_limits

    limited: AbstractContextManager[Any] = threadpool_limits(1, "openmp")
    return limited


def _trees(protocol: str) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier

    if protocol == "paper":
        return GradientBoostingClassifier(n_estimators=100, random_state=0)
    # The same kind of model over histograms: as good, and twenty times faster.
    return HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=0)


def sorted_rows(*kinds: Probabilities) -> npt.NDArray[np.float64]:
    """Each row's probabilities in ascending order, one kind after the other."""
    return np.sort(np.concatenate(kinds), axis=1)
