"""Results that cannot be right, whatever the method: found on the models, without a retrained one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fedlaf.core.types import Weights
from fedlaf.evaluation.predictions import Predictions
from fedlaf.evaluation.splits import EvaluationSplits
from fedlaf.method.contract import Finding

RUINED = 0.9
"""Share of retain rows with another predicted class from which on a result is ruined."""
FALL = 0.05
"""By how much the accuracy on retain rows falls at least when they are ruined: a model that has hardly been
trained changes most classes when it learns."""
RISE = 0.01
"""Share of a removed class's rows by which its recall may rise: below it, single rows decide."""


def guards(
    original: Weights, unlearned: Weights, before: Predictions, after: Predictions, splits: EvaluationSplits
) -> Iterator[Finding]:
    """What is wrong with the unlearned model, from predictions of the same rows before and after.

    "Nothing forgotten" where no weight changed. Fatal where nearly all retain rows change their class and
    fewer are right, or where a class that keeps no row is predicted more often on its rows than before.
    """
    if _same_weights(original, unlearned):
        yield Finding("nothing forgotten", "result", 0, "no weight of the model has changed")
        return
    changed = before.retain.argmax(1) != after.retain.argmax(1)
    right = splits.retain.y.numpy()
    fall = (before.retain.argmax(1) == right).mean() - (after.retain.argmax(1) == right).mean()
    if changed.mean() > RUINED and fall > FALL:
        message = f"{100 * changed.mean():.0f} % of the retain rows changed their predicted class"
        yield Finding("retain rows ruined", "result", 0, message, fatal=True)
    labels = splits.forget.y.numpy()
    for label in splits.removed:
        was, now = ((p.forget.argmax(1) == label)[labels == label].mean() for p in (before, after))
        if now > was + RISE:
            message = (
                f"class {label} keeps no row, and its recall rose from {100 * was:.1f} to {100 * now:.1f} %"
            )
            yield Finding("removed class strengthened", "result", 0, message, fatal=True)


def _same_weights(one: Weights, other: Weights) -> bool:
    return list(one) == list(other) and all(np.array_equal(one[name], other[name]) for name in one)
