"""Guards of every method: a model that did not change, ruined retain rows, a removed class that grows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedlaf.data import LabelledRows
from fedlaf.evaluation import EvaluationSplits, Predictions
from fedlaf.evaluation.guards import guards

ROWS = 100


def labelled(labels: list[int]) -> LabelledRows:
    return LabelledRows(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), torch.tensor(labels))


SPLITS = EvaluationSplits(labelled([0] * ROWS), labelled([2] * ROWS), labelled([0]), removed=(2,))


def predicting(retain: list[int], forget: list[int]) -> Predictions:
    return Predictions(np.eye(3)[retain], np.eye(3)[forget], np.eye(3)[[0]])


def names(before: Predictions, after: Predictions, *, moved: float = 1.0) -> list[tuple[str, bool]]:
    weights = {"a": np.zeros(2)}
    found = guards(weights, {"a": np.full(2, moved)}, before, after, SPLITS)
    return [(finding.name, finding.fatal) for finding in found]


@pytest.mark.parametrize(("changed", "expected"), [(90, []), (91, [("retain rows ruined", True)])])
def test_nearly_all_retain_rows_may_not_change_class(changed: int, expected: list[tuple[str, bool]]) -> None:
    before = predicting([0] * ROWS, [0] * ROWS)
    assert names(before, predicting([1] * changed + [0] * (ROWS - changed), [0] * ROWS)) == expected


def test_a_model_that_learns_may_change_all_classes() -> None:
    before = predicting([1] * ROWS, [0] * ROWS)
    assert names(before, predicting([0] * ROWS, [0] * ROWS)) == []


@pytest.mark.parametrize(("hits", "expected"), [(51, []), (52, [("removed class strengthened", True)])])
def test_a_class_that_keeps_no_row_never_rises(hits: int, expected: list[tuple[str, bool]]) -> None:
    before = predicting([0] * ROWS, [2] * 50 + [0] * 50)
    assert names(before, predicting([0] * ROWS, [2] * hits + [0] * (ROWS - hits))) == expected


def test_a_model_that_did_not_change_has_forgotten_nothing() -> None:
    same = predicting([0] * ROWS, [2] * ROWS)
    assert names(same, same, moved=0.0) == [("nothing forgotten", False)]
    assert names(same, same) == []
