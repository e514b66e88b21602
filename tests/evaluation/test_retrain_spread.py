"""The spread of retrainings: how far models retrained from other seeds are from each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from fedlaf.data import LabelledRows
from fedlaf.evaluation import EvaluationSplits, Predictions
from fedlaf.evaluation.measures import Probabilities
from fedlaf.evaluation.retrain_spread import mean_spread

LABELS = torch.tensor([0, 1, 0, 1])


def rows(labels: torch.Tensor) -> LabelledRows:
    return LabelledRows(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels)


SPLITS = EvaluationSplits(rows(LABELS), rows(LABELS[:2]), rows(LABELS))


def sure(*right: float) -> Probabilities:
    """Probabilities of LABELS' classes: `right` of the true one."""
    found = np.empty((len(right), 2))
    for place, p in enumerate(right):
        found[place, int(LABELS[place])], found[place, 1 - int(LABELS[place])] = p, 1 - p
    return found


def model(retain: Probabilities) -> Predictions:
    return Predictions(retain, sure(0.9, 0.9), sure(0.9, 0.9, 0.9, 0.9))


ALL = model(sure(0.9, 0.8, 0.7, 0.6))
HALF = model(sure(0.9, 0.8, 0.3, 0.4))
NONE = model(sure(0.1, 0.2, 0.3, 0.4))


def test_it_is_the_mean_absolute_distance_over_all_pairs() -> None:
    found = mean_spread([ALL, HALF, NONE], SPLITS)
    # 100, 50 and 0 % right: pairs are 50, 100 and 50 points apart.
    assert found["accuracy_retain"] == pytest.approx((50 + 100 + 50) / 3)
    assert found["accuracy_forget"] == found["accuracy_test"] == 0
    assert found["gap"] == pytest.approx(found["accuracy_retain"] / 3)  # over three measures


def test_divergences_are_those_between_the_two_of_a_pair() -> None:
    found = mean_spread([ALL, NONE], SPLITS)
    bits = [jensenshannon(p, q, base=2) ** 2 for p, q in zip(ALL.retain, NONE.retain, strict=True)]
    assert found["js_retain"] == pytest.approx(float(np.mean(bits)))
    assert found["js_test"] == 0


def test_the_order_of_seeds_does_not_matter() -> None:
    one, other = (mean_spread(list(models), SPLITS) for models in ([ALL, HALF], [HALF, ALL]))
    assert one == pytest.approx(other)


@pytest.mark.parametrize("models", [[], [ALL]])
def test_one_model_has_none(models: list[Predictions]) -> None:
    assert mean_spread(models, SPLITS) == {}
