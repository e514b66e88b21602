"""Measures of one's own: beside the built-in ones in values, distances, spread and verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest
import torch

from fedlaf.core.errors import InvalidValue
from fedlaf.data import LabelledRows
from fedlaf.evaluation import (
    CATALOGUE,
    Catalogue,
    Evaluation,
    EvaluationSplits,
    Gate,
    Group,
    Measure,
    MeasuredModel,
    MeasureFunction,
    Predictions,
    Sense,
    catalogue_of,
    evaluate,
    judged,
    of_catalogue,
    spread,
)
from fedlaf.evaluation.verdict import Word

LABELS = np.array([0, 1, 1, 0])
ROWS = LabelledRows(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.from_numpy(LABELS))
SPLITS = EvaluationSplits(ROWS, ROWS, ROWS)


class Confidence(MeasureFunction):
    """p(label) on forget rows; and the largest difference of it between two models."""

    catalogue: ClassVar[Catalogue] = {
        "apart": Measure("apart", Group.DISTANCE, Sense.DISTANCE, unit="points"),
        "confidence": Measure("confidence, forget rows", Group.MEMBERSHIP, Sense.TRACE, unit="%"),
    }

    def measure(
        self, found: Predictions, splits: EvaluationSplits, model: MeasuredModel
    ) -> Mapping[str, float]:
        return {"confidence": 100 * float(_true(found, splits).mean())}

    def compare(
        self, found: Predictions, reference: Predictions, splits: EvaluationSplits
    ) -> Mapping[str, float]:
        return {"apart": 100 * float(np.abs(_true(found, splits) - _true(reference, splits)).max())}


def _true(found: Predictions, splits: EvaluationSplits) -> np.ndarray:
    return found.forget[np.arange(4), splits.forget.y.numpy()]


def sure(share: float) -> Predictions:
    """A model that gives each label `share`."""
    given = np.full((4, 2), 1 - share)
    given[np.arange(4), LABELS] = share
    return Predictions(given, given, given)


def measured(found: Predictions, reference: Predictions | None) -> Evaluation:
    own = Confidence().measure(found, SPLITS, MeasuredModel({}, lambda: pytest.fail("no network"), {}))
    both = evaluate(found, SPLITS, reference, added=[Confidence()])
    return Evaluation({**both.measures, **own}, catalogue=both.catalogue)


@pytest.mark.parametrize(
    ("unlearned", "words", "outcome"),
    [
        (0.7, (Word.WITHIN, Word.WITHIN), "within the spread of retrainings"),
        (0.9, (Word.TOO_LITTLE, Word.APART), "too little forgotten (confidence on forget rows)"),
        (0.55, (Word.TOO_MUCH, Word.APART), "too much forgotten (confidence on forget rows)"),
    ],
)
def test_an_added_measure_has_a_spread_and_a_say_in_the_verdict(
    unlearned: float, words: tuple[Word, Word], outcome: str
) -> None:
    retrained, other = sure(0.7), sure(0.76)
    pairs = [(seen, measured(seen, None)) for seen in (retrained, other)]
    between = spread(pairs, SPLITS, [Confidence()])
    assert between.mean["confidence"] == pytest.approx(6)
    assert between.mean["apart"] == pytest.approx(6)
    models = {"unlearned": sure(unlearned), "original": sure(0.95), "retrained": retrained}
    found = judged({name: measured(seen, retrained) for name, seen in models.items()}, between, Gate())
    assert (found.words["confidence"], found.words["apart"]) == words
    assert found.distances["confidence"] == pytest.approx(100 * abs(unlearned - 0.7))
    assert outcome in found.line


def test_added_measures_stand_in_their_group_and_the_built_in_ones_stay_as_they_are() -> None:
    names = list(catalogue_of([Confidence()]))
    assert names.index("apart") == names.index("gap") + 1
    assert [name for name in names if name not in Confidence.catalogue] == list(CATALOGUE)
    assert not set(Confidence.catalogue) & set(CATALOGUE)


def test_a_name_that_is_taken_and_a_value_without_an_entry_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"evaluation.measure: expected names .*, got 'apart'"):
        catalogue_of([Confidence(), Confidence()])
    with pytest.raises(InvalidValue, match=r"values of apart, confidence alone from Confidence, got \['x'\]"):
        of_catalogue(Confidence(), {"x": 1.0})
