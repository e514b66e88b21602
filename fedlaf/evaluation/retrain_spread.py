"""How far apart retrained models are anyway: a distance below that says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isnan, nan

from fedlaf.evaluation.catalogue import distance
from fedlaf.evaluation.evaluate import Evaluation, evaluate, losses_of_clients, relative
from fedlaf.evaluation.measure_function import MeasureFunction
from fedlaf.evaluation.predictions import Predictions
from fedlaf.evaluation.splits import EvaluationSplits

GAP = "gap"


@dataclass(frozen=True)
class RetrainSpread:
    """Distances of each pair of models retrained from other seeds, by measure."""

    pairs: tuple[Mapping[str, float], ...] = ()

    @property
    def mean(self) -> dict[str, float]:
        """Each measure's mean distance."""
        return {name: sum(self.of(name)) / len(self.pairs) for name in self._names}

    @property
    def largest(self) -> dict[str, float]:
        """Each measure's largest distance; NaN where any pair has none."""
        return {name: nan if any(map(isnan, self.of(name))) else max(self.of(name)) for name in self._names}

    def of(self, name: str) -> list[float]:
        """A measure's distances, pair by pair."""
        return [pair[name] for pair in self.pairs]

    @property
    def _names(self) -> list[str]:
        return list(self.pairs[0]) if self.pairs else []


Retrained = tuple[Predictions, Evaluation]
"""A retrained model: what it predicts, and the measures that it has by itself."""


def spread(
    retrained: Sequence[Retrained], splits: EvaluationSplits, added: Sequence[MeasureFunction] = ()
) -> RetrainSpread:
    """The distances of all pairs; none with fewer than two models."""
    pairs = combinations(retrained, 2)
    return RetrainSpread(tuple(apart(one, other, splits, added) for one, other in pairs))


def apart(
    one: Retrained, other: Retrained, splits: EvaluationSplits, added: Sequence[MeasureFunction] = ()
) -> dict[str, float]:
    """Distances of two models by measure; `gap` is the mean distance that either has to the other."""
    left, right, catalogue = one[1].measures, other[1].measures, one[1].catalogue
    values = {**right, **relative(other[0], one[0], splits, added)}
    found = {name: distance(name, value, left.get(name, nan), catalogue) for name, value in values.items()}
    # Losses depend on which of the two comes first: the larger counts.
    back = losses_of_clients(one[0], other[0], splits)
    return {**found, **{n: max(found[n], value) for n, value in back.items()}, GAP: other[1].gap(one[1])}


def mean_spread(
    retrained: Sequence[Predictions], splits: EvaluationSplits, *, asr: str | None = None
) -> Mapping[str, float]:
    """Each measure's mean distance over all pairs of models; empty with fewer than two."""
    return spread([(seen, evaluate(seen, splits, asr=asr)) for seen in retrained], splits).mean
