"""What a request gives away: the difference attack, leakage of retained rows, losses of single clients."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from fedlaf.data import LabelledRows
from fedlaf.evaluation import (
    EvaluationSplits,
    KnowledgeOverlap,
    Predictions,
    difference_attack,
    evaluate,
    leakage,
    spread,
)
from fedlaf.evaluation.difference import DIFFERENCES, rows_of

CLASSES = 3


def rows(labels: np.ndarray) -> LabelledRows:
    return LabelledRows(torch.zeros(len(labels), 1), torch.from_numpy(labels.astype(np.int64)))


def splits_of(retain: np.ndarray, forget: np.ndarray, test: np.ndarray) -> EvaluationSplits:
    owners = {"retain": 1 + np.arange(len(retain)) % 2, "forget": np.zeros(len(forget), np.int64)}
    return EvaluationSplits(rows(retain), rows(forget), rows(test), owners=owners)


def drawn(counts: tuple[int, int, int], seed: int = 0) -> EvaluationSplits:
    stream = np.random.default_rng(seed)
    return splits_of(*(stream.integers(0, CLASSES, count) for count in counts))


def answers(splits: EvaluationSplits, sure: dict[str, float], seed: int = 0) -> Predictions:
    """Answers that know the labels of each kind as surely as is said, with noise."""
    stream, said = np.random.default_rng(seed), {}
    for kind in ("retain", "forget", "test"):
        y = getattr(splits, kind).y.numpy()
        logits = stream.normal(size=(len(y), CLASSES)) + sure[kind] * np.eye(CLASSES)[y]
        said[kind] = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Predictions(**said)


def pairs_won(members: np.ndarray, others: np.ndarray) -> float:
    """AUC as the share of pairs that the member wins, in percent."""
    statistic = mannwhitneyu(members, others).statistic
    return 100.0 * float(statistic) / (len(members) * len(others))


def label_probability(found: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([row[label] for row, label in zip(found, y, strict=True)])


SEEN = {"retain": 2.0, "forget": 2.0, "test": 1.0}
FORGOTTEN = {"retain": 2.0, "forget": 0.0, "test": 1.0}


def test_two_models_that_are_the_same_give_nothing_away() -> None:
    splits = drawn((400, 200, 300))
    model = answers(splits, SEEN)
    found = difference_attack(model, model, splits, 400)
    assert found["difference_loss_auc"] == found["difference_js_auc"] == 50.0
    # The classifier sees the answers themselves, which tell members of the original whatever was served.
    assert found["difference_trees_auc"] < 75


def test_rows_whose_answers_alone_have_moved_are_found() -> None:
    splits = drawn((400, 200, 300))
    before = answers(splits, SEEN)
    after = Predictions(before.retain, answers(splits, FORGOTTEN, 1).forget, before.test)
    found = difference_attack(before, after, splits, 400)
    assert found["difference_js_auc"] == found["difference_js_tpr"] == 100.0
    assert found["difference_trees_auc"] > 99
    # The control: a model that forgot nobody in particular moves all rows alike.
    control = difference_attack(before, answers(splits, {**SEEN, "forget": 1.0}, 2), splits, 400)
    assert control["difference_js_auc"] < 70


def test_scores_are_ranked_as_pairs_are_won() -> None:
    splits = drawn((300, 120, 200))
    before, after = answers(splits, SEEN), answers(splits, FORGOTTEN, 1)
    found, at = difference_attack(before, after, splits, 400), rows_of(splits, 400)

    def risen(kind: str) -> np.ndarray:
        y = getattr(splits, kind).y.numpy()[at[kind]]
        old, new = (label_probability(model.of(kind)[at[kind]], y) for model in (before, after))
        return np.log(old) - np.log(new)

    assert found["difference_loss_auc"] == pytest.approx(pairs_won(risen("forget"), risen("test")))


def test_all_kinds_have_the_forgotten_rows_mix_of_classes_where_they_can() -> None:
    stream = np.random.default_rng(3)
    forget = np.repeat([0, 1], [90, 30])
    splits = splits_of(stream.permutation(np.repeat([0, 1, 2], 100)), forget, np.repeat([0, 1, 2], 50))
    at = rows_of(splits, 1000)
    for kind in ("retain", "test"):
        counts = np.bincount(getattr(splits, kind).y.numpy()[at[kind]], minlength=3)
        assert counts[2] == 0
        assert counts[0] == pytest.approx(3 * counts[1], abs=2)
    removed = splits_of(np.repeat([1, 2], 100), np.zeros(50), np.repeat([0, 1, 2], 50))
    at = rows_of(removed, 1000)
    assert len(at["retain"]) == 200  # of a removed class none is left to be like
    assert set(removed.test.y.numpy()[at["test"]]) == {0}


@pytest.mark.parametrize("forget", [1, 8])
def test_few_rows_have_no_classifier(forget: int) -> None:
    splits = drawn((300, forget, 200))
    found = difference_attack(answers(splits, SEEN), answers(splits, FORGOTTEN, 1), splits, 400)
    assert set(found) == {f"difference_{n}_{f}" for n in DIFFERENCES for f in ("auc", "tpr")}
    assert isnan(found["difference_trees_auc"])
    assert not isnan(found["difference_loss_auc"])


def test_leakage_of_retained_rows_by_hand() -> None:
    """One class, four remaining and 200 unseen rows: a row is given away above all but 1 % of these."""
    splits = splits_of(np.zeros(4), np.zeros(1), np.zeros(200))
    unseen = np.linspace(0.01, 0.90, 200)

    def model(*own: float) -> Predictions:
        def both(p: np.ndarray) -> np.ndarray:
            return np.stack([p, 1 - p], axis=1)

        return Predictions(both(np.array(own)), both(np.array([0.5])), both(unseen))

    original, now = model(0.95, 0.5, 0.5, 0.0), model(0.95, 0.95, 0.5, 0.0)
    found = leakage(now, original, splits, 1000)
    assert found["leakage_auc"] == pytest.approx(pairs_won(np.array([0.95, 0.95, 0.5, 0.0]), unseen))
    assert found["leakage_tpr"] == 50.0
    assert found["leakage_new"] == 25.0
    assert leakage(original, original, splits, 1000)["leakage_new"] == 0.0
    assert "leakage_new" not in leakage(now, None, splits, 1000)


def test_a_client_that_loses_is_seen_beside_those_that_do_not() -> None:
    splits = splits_of(np.array([0, 0, 1, 1]), np.array([2]), np.array([0, 1, 2]))  # of clients 1, 2, 1, 2
    right = np.eye(CLASSES)[splits.retain.y.numpy()]
    wrong = right.copy()
    wrong[[1]] = np.eye(CLASSES)[[2]]  # client 2 has one of its two rows wrong
    other = {"forget": np.eye(CLASSES)[[2]], "test": np.eye(CLASSES)}
    unlearned, retrained = Predictions(wrong, **other), Predictions(right, **other)
    found = evaluate(unlearned, splits, retrained).measures
    expected = {"fairness_worst": 50.0, "fairness_deviation": 25.0, "fairness_below": 50.0}
    assert {name: found[name] for name in expected} == expected
    better = evaluate(retrained, splits, unlearned).measures
    assert better["fairness_worst"] == 0.0
    for pair in ((unlearned, retrained), (retrained, unlearned)):  # between retrainings, neither comes first
        both = spread([(model, evaluate(model, splits)) for model in pair], splits)
        assert both.largest["fairness_worst"] == 50.0


def test_knowledge_of_one_client_is_told_from_what_others_know() -> None:
    splits = splits_of(np.zeros(1), np.zeros(1), np.array([0, 0, 1, 1, 2]))
    said = np.eye(CLASSES)[[0, 1, 1, 1, 0]]
    found = Predictions(np.eye(CLASSES)[[0]], np.eye(CLASSES)[[0]], said)
    measured = KnowledgeOverlap(unique=0, shared=1).measure(found, splits, None)  # type: ignore[arg-type]
    assert measured == {"knowledge_unique": 50.0, "knowledge_shared": 100.0, "knowledge_others": 0.0}
