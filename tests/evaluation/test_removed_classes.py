"""Where whole classes are removed, the test set is measured without them and on them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedlaf.core.request import ForgetRequest
from fedlaf.data import Digits, Iid, LabelledRows
from fedlaf.data.federation import FederationSpec, build
from fedlaf.evaluation import EvaluationSplits, Predictions, evaluate, removed_classes, splits_for
from fedlaf.evaluation.measures import Probabilities

BOTH = ("accuracy_test_kept", "accuracy_test_removed")


def rows(labels: list[int]) -> LabelledRows:
    return LabelledRows(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), torch.tensor(labels).long())


def says(classes: list[int]) -> Probabilities:
    """Predictions [N, 4] that name these classes."""
    return np.eye(4)[classes] * 0.7 + 0.075 if classes else np.empty((0, 4))


def measured(retain: list[int], forget: list[int], test: list[int], said: list[int]) -> dict[str, float]:
    found = Predictions(says(retain), says(forget), says(said))
    retain, forget = rows(retain), rows(forget)
    splits = EvaluationSplits(retain, forget, rows(test), removed=removed_classes(retain, forget))
    measures = evaluate(found, splits).measures
    return {name: measures[name] for name in BOTH if name in measures}


def test_kept_and_removed_classes_are_measured_apart() -> None:
    # Test rows of classes 0, 1, 3 are kept: 2 of 5 right; of class 2 they are removed: 1 of 3.
    test, said = [0, 2, 1, 3, 2, 0, 2, 1], [0, 2, 2, 3, 0, 1, 1, 0]
    found = measured([0, 1, 3], [2, 2], test, said)
    assert found["accuracy_test_kept"] == pytest.approx(100 * 2 / 5)
    assert found["accuracy_test_removed"] == pytest.approx(100 * 1 / 3)


def test_several_classes_may_be_removed_at_once() -> None:
    found = measured([1], [0, 3, 2], [0, 1, 2, 3], [0, 1, 1, 3])
    assert found["accuracy_test_kept"] == 100
    assert found["accuracy_test_removed"] == pytest.approx(100 * 2 / 3)


def test_a_class_of_which_rows_remain_is_not_removed() -> None:
    assert measured([0, 1, 2, 3], [2, 2], [0, 1, 2, 3], [0, 1, 2, 3]) == {}
    # Class 3 goes wholly, class 2 in part: only 3 counts as removed.
    found = measured([0, 1, 2], [2, 3], [0, 1, 2, 3], [0, 1, 2, 0])
    assert found == {"accuracy_test_kept": 100, "accuracy_test_removed": 0}


def test_a_class_that_nobody_holds_is_not_removed() -> None:
    assert measured([0, 1], [0], [0, 1, 2, 3], [0, 1, 2, 3]) == {}


def test_a_removed_class_without_test_rows_is_not_measured() -> None:
    assert measured([0, 1], [3], [0, 1, 0], [0, 1, 0]) == {}


def test_where_no_class_is_kept_its_accuracy_is_nan() -> None:
    found = measured([0], [3], [3, 3], [3, 0])
    assert math.isnan(found["accuracy_test_kept"])
    assert found["accuracy_test_removed"] == 50


def test_the_weighted_mean_of_both_is_the_accuracy_on_all_test_rows() -> None:
    stream = np.random.default_rng(0)
    test, said = (stream.integers(0, 4, 200).tolist() for _ in range(2))
    found = measured([0, 1, 2], [3, 3], test, said)
    share = test.count(3) / 200
    whole = (1 - share) * found["accuracy_test_kept"] + share * found["accuracy_test_removed"]
    assert whole == pytest.approx(100 * np.mean(np.array(test) == np.array(said)))


@pytest.mark.parametrize(("share", "apart"), [(1.0, True), (0.5, False)])
def test_a_class_removal_in_a_federation_is_one_when_every_client_gives_all(
    share: float, apart: bool
) -> None:
    federation = build(FederationSpec(Digits(train_rows=200, test_rows=80), Iid(), 4, 0))
    asked = {}
    for k, labels in enumerate(federation.labels):
        of_class = np.flatnonzero(labels == 3)
        asked[k] = of_class[: max(1, round(share * len(of_class)))].tolist()
    splits = splits_for(federation, ForgetRequest.of_samples(asked, federation.sizes), ForgetRequest())
    kinds = (splits.retain, splits.forget, splits.test)
    knows_all = Predictions(*(np.eye(10)[kind.y.numpy()] for kind in kinds))
    measures = evaluate(knows_all, splits).measures
    assert [name in measures for name in BOTH] == [apart, apart]
    if apart:
        assert [measures[name] for name in BOTH] == [100, 100]
        never = np.eye(10)[np.where(splits.test.y.numpy() == 3, 5, splits.test.y.numpy())]
        forgot = evaluate(Predictions(knows_all.retain, knows_all.forget, never), splits).measures
        assert [forgot[name] for name in BOTH] == [100, 0]


def test_a_class_of_which_only_the_first_rows_are_shown_is_not_removed() -> None:
    """A curve measures the first rows of each kind: what remains is decided by all of them."""
    federation = build(FederationSpec(Digits(train_rows=200, test_rows=80), Iid(), 4, 0))
    of_class = {k: np.flatnonzero(labels == 3).tolist() for k, labels in enumerate(federation.labels)}
    for asked, removed in (({0: [0, 1, 2]}, ()), (of_class, (3,))):
        whole = splits_for(federation, ForgetRequest.of_samples(asked, federation.sizes), ForgetRequest())
        few = whole.some(2)
        assert set(few.forget.y.tolist()) - set(few.retain.y.tolist())  # looks like a class removal
        assert whole.removed == few.removed == removed
        kinds = (few.retain, few.forget, whole.test)
        found = Predictions(*(np.eye(10)[kind.y.numpy()] for kind in kinds))
        measures = evaluate(found, replace(few, test=whole.test)).measures
        assert [name in measures for name in BOTH] == [bool(removed)] * 2
