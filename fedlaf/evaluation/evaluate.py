"""Predictions in, measures out: the simulator's view from outside the federation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan

import numpy as np

from fedlaf.evaluation.catalogue import CATALOGUE, Catalogue
from fedlaf.evaluation.fairness import accuracy_by_client, fairness
from fedlaf.evaluation.inside import layers_alike
from fedlaf.evaluation.measure_function import MeasureFunction, catalogue_of, of_catalogue
from fedlaf.evaluation.measures import (
    accuracy,
    accuracy_by_class,
    backdoor_success,
    js_divergence,
    l2_distance,
    tug_of_war,
)
from fedlaf.evaluation.membership import attack_success
from fedlaf.evaluation.predictions import Predictions
from fedlaf.evaluation.splits import LABELLED, EvaluationSplits

PERCENT = ("accuracy_retain", "accuracy_forget", "accuracy_test", "backdoor_success", "attack_success")
ACCURACIES = PERCENT[:3]


@dataclass(frozen=True)
class Evaluation:
    """Named measures of one model: accuracies and backdoor success in percent, JS in bits.

    `by_class` has the accuracy on each class of each kind of rows, `layers` the likeness (CKA) of each
    layer to the retrained model's, where that was asked for. `catalogue` says what each measure is.
    """

    measures: Mapping[str, float]
    by_class: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    layers: Mapping[str, float] = field(default_factory=dict)
    catalogue: Catalogue = field(default_factory=lambda: CATALOGUE)

    def gap(self, reference: Evaluation) -> float:
        """Mean absolute distance to `reference` in points, over what both have in percent.

        NaN when they share nothing.
        """
        pairs = [(self.measures.get(n, nan), reference.measures.get(n, nan)) for n in PERCENT]
        apart = [abs(one - other) for one, other in pairs if not isnan(one - other)]
        return sum(apart) / len(apart) if apart else nan


def evaluate(
    found: Predictions,
    splits: EvaluationSplits,
    reference: Predictions | None = None,
    *,
    asr: str | None = None,
    added: Sequence[MeasureFunction] = (),
) -> Evaluation:
    """The measures of one model; divergences (those of `added` too) only where there is a reference, ASR
    only where a protocol for it is named.
    """
    measures = {
        "accuracy_retain": accuracy(found.retain, splits.retain.y.numpy()),
        "accuracy_forget": accuracy(found.forget, splits.forget.y.numpy()),
        "accuracy_test": accuracy(found.test, splits.test.y.numpy()),
    }
    if found.triggered is not None and splits.triggered is not None:
        measures["backdoor_success"] = backdoor_success(found.triggered, splits.triggered.y.numpy())
    measures |= _by_removed_class(found, splits)
    if asr is not None:
        measures["attack_success"] = attack_success(found.retain, found.forget, found.test, asr)
    if reference is not None:
        measures |= relative(found, reference, splits, added)
    layers = {} if reference is None else layers_alike(found.grams, reference.grams)
    return Evaluation(measures, by_class(found, splits), layers, catalogue_of(added))


def relative(
    found: Predictions,
    reference: Predictions,
    splits: EvaluationSplits,
    added: Sequence[MeasureFunction] = (),
) -> dict[str, float]:
    """The measures that two models have together: JS divergences, distances of representations where
    both have them, fairness where rows have owners, ToW, and what is `added`.
    """
    measures = {f"js_{kind}": js_divergence(found.of(kind), reference.of(kind)) for kind in LABELLED}
    for kind in LABELLED:
        if kind in found.represented and kind in reference.represented:
            inner = found.represented[kind], reference.represented[kind]
            measures[f"l2_{kind}"] = l2_distance(*inner)
    for function in added:
        measures |= of_catalogue(function, function.compare(found, reference, splits))
    measures |= losses_of_clients(found, reference, splits)
    ours, theirs = (
        [accuracy(model.of(kind), getattr(splits, kind).y.numpy()) for kind in LABELLED]
        for model in (found, reference)
    )
    return {**measures, "tow": tug_of_war(ours, theirs)}


def losses_of_clients(
    found: Predictions, reference: Predictions, splits: EvaluationSplits
) -> dict[str, float]:
    """Fairness as distances: the worst difference is the largest loss of a client against `reference`, 0
    where nobody loses. {} where rows have no owners.
    """
    if "retain" not in splits.owners:
        return {}
    labels, owners = splits.retain.y.numpy(), splits.owners["retain"]
    fair = fairness(*(accuracy_by_client(model.retain, labels, owners) for model in (found, reference)))
    return {f"fairness_{n}": max(0.0, -value) if n == "worst" else value for n, value in fair.items()}


def by_class(found: Predictions, splits: EvaluationSplits) -> dict[str, tuple[float, ...]]:
    """Accuracy in percent on each class of each kind of rows."""
    classes = found.test.shape[1]
    labels = {kind: getattr(splits, kind).y.numpy() for kind in LABELLED}
    return {kind: accuracy_by_class(found.of(kind), labels[kind], classes) for kind in LABELLED}


def _by_removed_class(found: Predictions, splits: EvaluationSplits) -> dict[str, float]:
    """Where whole classes are forgotten: test accuracy without them, and on them."""
    labels = splits.test.y.numpy()
    on = np.isin(labels, splits.removed)
    if not on.any():
        return {}
    return {
        "accuracy_test_kept": accuracy(found.test[~on], labels[~on]),
        "accuracy_test_removed": accuracy(found.test[on], labels[on]),
    }
