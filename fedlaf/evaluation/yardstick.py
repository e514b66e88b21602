"""How far apart retrained models are anyway: a distance below that says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import nan

from fedlaf.evaluation.evaluate import Predictions, Subjects, evaluate

GAP = "gap"


def yardstick(
    retrained: Sequence[Predictions], subjects: Subjects, *, asr: str | None = None
) -> Mapping[str, float]:
    """Each measure's mean absolute difference over all pairs of models retrained from other seeds.

    Divergences are those between the two of a pair, `gap` is the mean distance that either has to the
    other. Empty with fewer than two models.
    """
    pairs = [_apart(one, other, subjects, asr) for one, other in combinations(retrained, 2)]
    names = pairs[0] if pairs else {}
    return {name: sum(pair[name] for pair in pairs) / len(pairs) for name in names}


def _apart(one: Predictions, other: Predictions, subjects: Subjects, asr: str | None) -> dict[str, float]:
    left, right = (evaluate(seen, subjects, one, asr=asr) for seen in (one, other))
    apart = {
        name: value if name.startswith("js") else abs(value - left.measures.get(name, nan))
        for name, value in right.measures.items()
    }
    return {**apart, GAP: right.gap(left)}
