"""The membership attack: exact small cases, plain oracles, and what `split` may never do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import ensemble
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier

from fedlaf.core.seeding import numpy_stream
from fedlaf.data import LabelledRows
from fedlaf.evaluation import Evaluation, EvaluationSplits, Predictions, evaluate, membership
from fedlaf.evaluation.measures import Probabilities
from fedlaf.evaluation.membership import PROTOCOLS, attack_success


def softmax(rows: int, seed: int, *, sharp: float = 1.0, classes: int = 4) -> Probabilities:
    """Made-up predictions [N, C]; the lower `sharp`, the more certain."""
    return np.random.default_rng(seed).dirichlet(np.full(classes, sharp), rows)


def certain(rows: int, top: float = 0.94) -> Probabilities:
    """Rows whose largest probability is `top` or a little less, in any class, all different."""
    found = np.empty((rows, 4))
    for i in range(rows):
        first = top - 1e-4 * i
        found[i] = np.roll([first, (1 - first) / 2, (1 - first) / 3, (1 - first) / 6], i)
    return found


# ---- exact cases


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("like_members", "expected"), [(20, 100.0), (10, 75.0), (5, 62.5), (0, 50.0)])
def test_forget_rows_count_as_members_and_test_rows_as_none(
    protocol: str, like_members: int, expected: float
) -> None:
    """Members are certain and test rows are not: all test rows are told right, and of the forgotten
    rows those that look like members."""
    forget = np.concatenate([certain(like_members, 0.93), certain(20 - like_members, 0.48)])
    found = attack_success(certain(60), forget, certain(100, 0.5), protocol)
    assert found == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_attack_that_takes_members_for_others_is_below_a_coin(protocol: str) -> None:
    forget, test = certain(20, 0.5), certain(100, 0.94)
    assert attack_success(certain(60, 0.5), forget, test, protocol) == 100
    # Only the forgotten rows are changed: now all of them pass for test rows.
    assert attack_success(certain(60, 0.5), certain(20, 0.93), test, protocol) == 50


def test_a_model_that_does_not_separate_gives_a_coin_on_rows_of_its_own() -> None:
    """Members, forgotten and test rows from one distribution."""
    found = [
        attack_success(softmax(400, s), softmax(200, s + 1), softmax(800, s + 2), "split")
        for s in (0, 10, 20)
    ]
    # 3 x 400 guesses: a standard deviation of 1.4 points.
    assert abs(float(np.mean(found)) - 50) < 5
    assert len(set(found)) > 1


# ---- oracles


def plain(
    retain: Probabilities, forget: Probabilities, test: Probabilities, protocol: str, most: int
) -> float:
    """Both protocols as their description has them, row by row."""
    draw = numpy_stream(0, "membership")
    order = list(draw.permutation(len(test)))
    count = min(most, len(retain), len(test) // 2)
    train_out = [sorted(test[i]) for i in order[:count]]
    scored = order[count:] if protocol == "split" else list(draw.permutation(len(test)))
    train_in = [sorted(retain[i]) for i in draw.choice(len(retain), count, replace=False)]
    few = min(len(scored), len(forget))
    ours = [sorted(forget[i]) for i in draw.choice(len(forget), few, replace=False)]
    if protocol == "paper":
        trees: Any = GradientBoostingClassifier(n_estimators=100, random_state=0)
    else:
        trees = HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=0)
    trees.fit(train_in + train_out, [1] * count + [0] * count)
    right = sum(int(guess == 1) for guess in trees.predict(ours))
    right += sum(int(guess == 0) for guess in trees.predict([sorted(test[i]) for i in scored[:few]]))
    return 100 * right / (2 * few)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("retain", "forget", "test", "most"),
    [(120, 40, 160, 5000), (60, 30, 200, 5000), (200, 150, 120, 5000), (200, 40, 200, 50)],
    ids=["balanced", "few remain", "many forgotten", "limited"],
)
def test_the_attack_is_the_plain_one(
    protocol: str, retain: int, forget: int, test: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "MOST", most)
    rows = softmax(retain, 1, sharp=0.6), softmax(forget, 2, sharp=0.7), softmax(test, 3)
    found = attack_success(*rows, protocol)
    assert found == pytest.approx(plain(*rows, protocol, most), abs=1e-9)
    assert 40 < found < 100  # neither a constant nor a certainty


# ---- which rows


class Memory:
    """An attack that knows by heart what it was trained on, and takes all else for members."""

    def fit(self, x: Probabilities, y: np.ndarray) -> None:
        self.known = {row.tobytes(): int(label) for row, label in zip(x, y, strict=True)}
        self.trained = (x, y)

    def predict(self, x: Probabilities) -> np.ndarray:
        self.scored = x
        return np.array([self.known.get(row.tobytes(), 1) for row in x])


def remembered(monkeypatch: pytest.MonkeyPatch) -> Memory:
    memory = Memory()
    for kind in ("GradientBoostingClassifier", "HistGradientBoostingClassifier"):
        monkeypatch.setattr(ensemble, kind, lambda **settings: memory)
    return memory


def keys(rows: Probabilities) -> set[bytes]:
    return {row.tobytes() for row in rows}


@pytest.mark.parametrize(("retain", "forget", "test"), [(300, 80, 200), (50, 80, 200), (300, 80, 41)])
def test_split_never_scores_a_row_that_it_trained_on(
    retain: int, forget: int, test: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = remembered(monkeypatch)
    rows = softmax(retain, 1), softmax(forget, 2), softmax(test, 3)
    # Of what it has not seen, the memory takes the forgotten rows for members and the test rows too.
    assert attack_success(*rows, "split") == 50
    (x, y), count = memory.trained, min(retain, test // 2)
    assert y.tolist() == [1] * count + [0] * count
    ordered = [np.sort(kind, axis=1) for kind in rows]
    assert keys(x[:count]) <= keys(ordered[0])
    assert keys(x[count:]) <= keys(ordered[2])
    assert len(keys(x)) == 2 * count  # no row twice
    half = min(forget, test - count)
    assert len(memory.scored) == 2 * half
    assert keys(memory.scored[:half]) <= keys(ordered[1])
    assert keys(memory.scored[half:]) <= keys(ordered[2]) - keys(x[count:])
    assert len(keys(memory.scored)) == 2 * half


def test_paper_scores_test_rows_trained_on_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = remembered(monkeypatch)
    # As many test rows as there are: half of them were trained on, and are known by heart.
    assert attack_success(softmax(300, 1), softmax(250, 2), softmax(200, 3), "paper") == 75
    count = 100
    assert keys(memory.scored[200:]) == keys(np.sort(softmax(200, 3), axis=1))
    assert keys(memory.trained[0][count:]) < keys(memory.scored[200:])


def test_no_more_than_5000_rows_of_a_kind_are_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = remembered(monkeypatch)
    attack_success(softmax(6000, 1), softmax(10, 2), softmax(10_500, 3), "split")
    assert memory.trained[1].tolist() == [1] * 5000 + [0] * 5000


# ---- what it does not depend on


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_order_of_classes_does_not_matter(protocol: str) -> None:
    rows = softmax(120, 1, sharp=0.5), softmax(40, 2), softmax(120, 3)
    stream = np.random.default_rng(0)
    shuffled = [stream.permuted(kind, axis=1) for kind in rows]
    assert not np.array_equal(shuffled[0], rows[0])
    assert attack_success(*rows, protocol) == attack_success(*shuffled, protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_is_deterministic_and_leaves_the_global_generator_and_its_rows_alone(protocol: str) -> None:
    rows = softmax(120, 1), softmax(40, 2), softmax(120, 3)
    copies = [kind.copy() for kind in rows]
    np.random.seed(1)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    first = attack_success(*rows, protocol)
    assert np.array_equal(np.random.get_state()[1], before)  # type: ignore[index]
    np.random.seed(2)
    assert attack_success(*rows, protocol) == first
    assert all(np.array_equal(kind, copy) for kind, copy in zip(rows, copies, strict=True))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("retain", "forget", "test"),
    [(1, 40, 40), (0, 40, 40), (19, 40, 40), (40, 0, 40), (40, 40, 39), (40, 40, 3), (40, 40, 0)],
)
def test_too_few_rows_of_a_kind_give_nan(protocol: str, retain: int, forget: int, test: int) -> None:
    found = attack_success(softmax(retain, 1), softmax(forget, 2), softmax(test, 3), protocol)
    assert math.isnan(found)
    # Twenty of each kind are enough: a leaf of the trees holds them.
    assert not math.isnan(attack_success(softmax(20, 1), softmax(1, 2), softmax(40, 3), protocol))


# ---- as a measure of a model


def rows_of(count: int) -> LabelledRows:
    return LabelledRows(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.arange(count) % 4)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_is_measured_only_where_a_protocol_is_named(protocol: str) -> None:
    found = Predictions(softmax(60, 1, sharp=0.5), softmax(20, 2, sharp=0.7), softmax(100, 3))
    rows = EvaluationSplits(rows_of(60), rows_of(20), rows_of(100))
    without = evaluate(found, rows).measures
    assert "attack_success" not in without
    measures = dict(evaluate(found, rows, asr=protocol).measures)
    asr = measures.pop("attack_success")
    assert measures == without
    assert asr == attack_success(found.retain, found.forget, found.test, protocol)
    assert asr != attack_success(found.forget, found.retain, found.test, protocol)


def test_the_gap_counts_it_where_both_have_it() -> None:
    found = Evaluation({"accuracy_test": 80.0, "attack_success": 58.0})
    assert found.gap(Evaluation({"accuracy_test": 80.0, "attack_success": 50.0})) == 4
    assert found.gap(Evaluation({"accuracy_test": 80.0})) == 0
    assert found.gap(Evaluation({"accuracy_test": 80.0, "attack_success": float("nan")})) == 0
