"""Membership attacks: closed forms, naive oracles, disjoint rows, and edges."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlaf.data import LabelledRows
from fedlaf.evaluation import (
    EvaluationSplits,
    Predictions,
    attacks,
    likelihood_ratios,
    membership_attacks,
    sides_of,
)
from fedlaf.evaluation.attacks import ATTACKS, FIGURES, GAMMA, OFFLINE, figures, threshold
from fedlaf.evaluation.measures import Probabilities

CLASSES = 4
scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]), min_size=1, max_size=12).map(np.array)


def softmax(rows: int, seed: int, sharp: float = 1.0) -> Probabilities:
    return np.random.default_rng(seed).dirichlet(np.full(CLASSES, sharp), rows)


def splits(retain: int, forget: int, test: int, seed: int = 0) -> EvaluationSplits:
    stream = torch.Generator().manual_seed(seed)
    labels = [torch.randint(CLASSES, (n,), generator=stream) for n in (retain, forget, test)]
    return EvaluationSplits(
        *(LabelledRows(torch.zeros(len(y), 1, 2, 2, dtype=torch.uint8), y) for y in labels)
    )


def predictions(rows: EvaluationSplits, seed: int, sharp: float = 1.0) -> Predictions:
    counts = (len(rows.retain), len(rows.forget), len(rows.test))
    return Predictions(*(softmax(n, seed + i, sharp) for i, n in enumerate(counts)))


# ---- the three figures


@given(scores, scores, st.sampled_from([0.0, 0.3, 0.5, 1.5]))
@settings(deadline=None, max_examples=60)
def test_figures_are_those_of_counting_pairs_and_thresholds(
    members: np.ndarray, others: np.ndarray, least: float
) -> None:
    found = figures("x", members, others, least)
    pairs = [(m > o) + 0.5 * (m == o) for m in members for o in others]  # ties count half
    assert found["mia_x_auc"] == pytest.approx(100 * np.mean(pairs))
    allowed = [t for t in [*members, *others, np.inf] if np.mean(others >= t) <= 0.01]
    assert found["mia_x_tpr"] == pytest.approx(100 * max(np.mean(members >= t) for t in allowed))
    right = (np.mean(members >= least) + np.mean(others < least)) / 2
    assert found["mia_x_accuracy"] == pytest.approx(100 * right)


@given(scores, scores)
@settings(deadline=None, max_examples=60)
def test_no_threshold_is_right_more_often_than_the_one_that_was_learned(
    members: np.ndarray, others: np.ndarray
) -> None:
    def right(least: float) -> float:
        return float(np.mean(members >= least) + np.mean(others < least))

    best = max(right(t) for t in [*members, *others, np.inf])
    assert right(threshold(members, others)) == pytest.approx(best)


def test_one_in_a_hundred_others_may_be_taken_for_a_member() -> None:
    others = np.concatenate([[5.0], np.zeros(99)])
    assert figures("x", np.array([6.0, 3.0, -1.0]), others, 0.5)["mia_x_tpr"] == pytest.approx(200 / 3)
    assert figures("x", np.array([6.0, 3.0, -1.0]), others[:99], 0.5)["mia_x_tpr"] == pytest.approx(100 / 3)


@pytest.mark.parametrize(("members", "others"), [(0, 3), (3, 0), (0, 0)])
def test_nobody_to_be_scored_gives_nan_without_a_warning(members: int, others: int) -> None:
    found = figures("x", np.ones(members), np.ones(others), 0.5)
    assert all(math.isnan(value) for value in found.values())
    assert math.isnan(threshold(np.ones(members), np.ones(others)))


# ---- which rows


@pytest.mark.parametrize(("retain", "forget", "test"), [(90, 30, 60), (10, 30, 61), (90, 300, 1), (5, 1, 2)])
@pytest.mark.parametrize("most", [7, 1000])
def test_what_is_learned_from_is_never_scored(retain: int, forget: int, test: int, most: int) -> None:
    sides = sides_of(splits(retain, forget, test), most)
    assert not set(sides.known_out.tolist()) & set(sides.out.tolist())
    assert len(sides.known_in) == len(sides.known_out) == min(retain, test // 2, most)
    assert len(sides.in_) == min(forget, most)
    assert len(sides.out) <= min(test - test // 2, most)
    for chosen, size in ((sides.known_in, retain), (sides.in_, forget), (sides.out, test)):
        assert len(set(chosen.tolist())) == len(chosen)
        assert all(0 <= place < size for place in chosen)


def test_only_scored_rows_and_their_labels_move_an_auc() -> None:
    rows = splits(80, 40, 100)
    sides, found = sides_of(rows, 1000), predictions(rows, 0)
    base = membership_attacks(found, rows, sides)
    test = found.test.copy()
    test[sides.known_out] = softmax(len(sides.known_out), 99)
    other = membership_attacks(Predictions(softmax(80, 98), found.forget, test), rows, sides)
    # Its threshold may move, the order of rows does not.
    assert other["mia_loss_auc"] == base["mia_loss_auc"]
    assert other["mia_loss_tpr"] == base["mia_loss_tpr"]


# ---- the attacks


def modified_entropy(p: np.ndarray, y: int) -> float:
    """Song and Mittal, equation 5; the higher, the rather a member."""
    others = sum(q * math.log(1 - q) for c, q in enumerate(p) if c != y)
    return (1 - p[y]) * math.log(p[y]) + others


def test_non_members_have_the_class_mix_of_the_forget_rows() -> None:
    rows = splits(50, 40, 400)
    one_class = replace(rows, forget=rows.retain.at((rows.retain.y == 2).nonzero().flatten()))
    out = sides_of(one_class, 1000).out
    assert set(rows.test.y.numpy()[out]) == {2}
    assert len(out) > 30
    mixed = replace(rows, forget=LabelledRows(rows.forget.x, torch.tensor([0] * 30 + [1] * 10)))
    counts = np.bincount(rows.test.y.numpy()[sides_of(mixed, 1000).out], minlength=CLASSES)
    assert counts[2:].sum() == 0
    assert counts[0] == pytest.approx(3 * counts[1], abs=2)


def test_each_threshold_attack_is_the_plain_one() -> None:
    rows = splits(50, 20, 41)
    sides, found = sides_of(rows, 1000), predictions(rows, 3, 0.5)
    forget, labels = found.forget[sides.in_], rows.forget.y.numpy()[sides.in_]
    test, truth = found.test[sides.out], rows.test.y.numpy()[sides.out]
    plain = {
        "loss": [
            [math.log(p[y]) for p, y in zip(*side, strict=True)]
            for side in ((forget, labels), (test, truth))
        ],
    }  # fmt: skip
    known = [(found.retain[sides.known_in], rows.retain.y.numpy()[sides.known_in]),
             (found.test[sides.known_out], rows.test.y.numpy()[sides.known_out])]  # fmt: skip
    for name, score in (("confidence", lambda p, y: p[y]), ("entropy", modified_entropy)):
        of = [np.array([score(p, y) for p, y in zip(*side, strict=True)]) for side in known]
        least = [threshold(*(s[y == c] for s, (_, y) in zip(of, known, strict=True))) for c in range(CLASSES)]
        plain[name] = [
            [score(p, y) - least[y] for p, y in zip(*side, strict=True)]
            for side in ((forget, labels), (test, truth))
        ]
    measured = membership_attacks(found, rows, sides)
    for name, (members, others) in plain.items():
        auc = np.mean([(m > o) + 0.5 * (m == o) for m in members for o in others])
        assert measured[f"mia_{name}_auc"] == pytest.approx(100 * auc)
    assert len({measured[f"mia_{name}_auc"] for name in plain}) == 3


def test_a_model_that_is_sure_of_its_members_alone_gives_them_away() -> None:
    rows = splits(100, 50, 100)
    sure = [
        np.full((n, CLASSES), 0.02) + 0.92 * np.eye(CLASSES)[y]
        for n, y in ((100, rows.retain.y), (50, rows.forget.y))
    ]
    found = Predictions(*sure, softmax(100, 1, 50.0))
    measures = membership_attacks(found, rows, sides_of(rows, 1000))
    assert set(measures) == {f"mia_{a}_{f}" for a in ATTACKS[:4] for f in FIGURES}
    assert set(measures.values()) == {100.0}
    forgets = Predictions(sure[0], softmax(50, 2, 50.0), found.test)
    forgot = membership_attacks(forgets, rows, sides_of(rows, 1000))
    assert all(forgot[f"mia_{a}_accuracy"] == 50 for a in ATTACKS[:4])


def test_zero_probability_and_certainty_are_no_trouble() -> None:
    rows = splits(50, 20, 80)
    certain = [np.eye(CLASSES)[np.zeros(n, int)] for n in (50, 20, 80)]
    measures = membership_attacks(Predictions(*certain), rows, sides_of(rows, 1000))
    assert measures["mia_trees_auc"] == 50
    assert np.isfinite(list(measures.values())).all()


def test_trees_need_twenty_rows_of_a_kind() -> None:
    rows = splits(19, 20, 80)
    measures = membership_attacks(predictions(rows, 0), rows, sides_of(rows, 1000))
    assert math.isnan(measures["mia_trees_auc"])
    assert not math.isnan(measures["mia_loss_auc"])


# ---- RMIA


def test_likelihood_ratios_are_the_plain_ones() -> None:
    rows = splits(30, 25, 60)
    sides, found = sides_of(rows, 1000), predictions(rows, 0, 0.4)
    references = [predictions(rows, seed, 0.4) for seed in (10, 20)]

    def ratio(kind: str, place: int) -> float:
        label = int(getattr(rows, kind).y[place])
        out = sum(getattr(model, kind)[place][label] for model in references) / 2
        return getattr(found, kind)[place][label] / (0.5 * ((1 + OFFLINE) * out + 1 - OFFLINE))

    def score(kind: str, place: int) -> float:
        beaten = [ratio(kind, place) >= GAMMA * ratio("test", z) for z in sides.known_out]
        return sum(beaten) / len(beaten)

    members = np.array([score("forget", place) for place in sides.in_])
    others = np.array([score("test", place) for place in sides.out])
    expected = figures("rmia", members, others, 0.5)
    assert likelihood_ratios(found, references, rows, sides) == pytest.approx(expected)
    assert 0 < len({*members, *others}) > 5


def test_without_references_there_are_no_ratios_and_without_a_population_no_value() -> None:
    rows = splits(30, 25, 1)
    sides, found = sides_of(rows, 1000), predictions(rows, 0)
    assert likelihood_ratios(found, [], rows, sides) == {}
    assert all(math.isnan(v) for v in likelihood_ratios(found, [found], rows, sides).values())


def test_the_model_itself_as_its_reference_tells_nothing() -> None:
    """With a = 1 all ratios would be one; with a < 1 they grow with the likelihood alone."""
    rows = splits(30, 25, 60)
    found = Predictions(*(np.full((n, CLASSES), 1 / CLASSES) for n in (30, 25, 60)))
    measures = likelihood_ratios(found, [found], rows, sides_of(rows, 1000))
    assert (measures["mia_rmia_auc"], measures["mia_rmia_tpr"]) == (50, 0)


def test_there_is_a_title_for_every_attack() -> None:
    from fedlaf.evaluation.catalogue import CATALOGUE

    assert {f"mia_{a}_{f}" for a in attacks.ATTACKS for f in FIGURES} <= set(CATALOGUE)
