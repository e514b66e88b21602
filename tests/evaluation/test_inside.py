"""What a model holds inside: CKA, HSIC, split halves, probes and relearning against oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from fedlaf.core.types import Weights
from fedlaf.data import LabelledRows
from fedlaf.evaluation import inside
from fedlaf.evaluation.inside import (
    cka,
    grams,
    hsic,
    layers_alike,
    probed,
    relearned,
    split_halves,
    unbiased_hsic,
)
from fedlaf.models import Classifier, SmallCnn


def drawn(rows: int, dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dims))


def gram(x: np.ndarray) -> np.ndarray:
    return x @ x.T


def small_model(seed: int = 0) -> tuple[Classifier, Weights]:
    model = SmallCnn().build((1, 8, 8), 10, seed)
    return model, {k: v.numpy().copy() for k, v in model.state_dict().items()}


def images(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(
        0, 256, (rows, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


# ---- HSIC and CKA


def test_unbiased_hsic_is_the_mean_over_tuples_of_four_different_rows() -> None:
    """Its definition as a U-statistic, row by row (Song et al., 2012)."""
    one, two = gram(drawn(6, 3, 0)), gram(drawn(6, 2, 1))
    values = [
        one[i, j] * (two[i, j] + two[q, r] - 2 * two[i, q])
        for i in range(6) for j in range(6) for q in range(6) for r in range(6)
        if len({i, j, q, r}) == 4
    ]  # fmt: skip
    assert unbiased_hsic(one, two) == pytest.approx(float(np.mean(values)))


def test_cka_does_not_see_rotation_scale_or_shift_and_sees_the_rest() -> None:
    x = drawn(40, 5)
    turned = 3 * x @ np.linalg.qr(drawn(5, 5, 7))[0] + 2
    assert cka(gram(x), gram(turned)) == pytest.approx(1)
    assert cka(gram(x), gram(drawn(40, 5, 3))) < 0.3
    assert cka(gram(x), gram(x @ np.diag([1, 1, 0, 0, 0.0]))) < 0.95


def test_many_features_of_few_rows_do_not_look_alike_by_chance() -> None:
    found = [cka(gram(drawn(20, 2000, s)), gram(drawn(20, 2000, s + 50))) for s in range(10)]
    assert abs(float(np.mean(found))) < 0.1


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_cka_needs_four_rows_and_some_spread(rows: int) -> None:
    assert math.isnan(cka(gram(drawn(rows, 2)), gram(drawn(rows, 2))))
    assert math.isnan(cka(np.ones((5, 5)), gram(drawn(5, 2))))


def test_gram_matrices_are_those_of_each_layer() -> None:
    model, weights = small_model()
    x = images(9)
    found = grams(model, weights, x)
    assert list(found) == ["extractor.0", "extractor.4", "head"]
    with torch.no_grad():
        output = model(x.float() / 255)
    expected = gram(output.logits.double().numpy())
    assert found["head"] == pytest.approx(expected, rel=1e-4)
    assert found["extractor.4"] == pytest.approx(gram(output.representation.double().numpy()), rel=1e-4)
    assert not model.extractor[0]._forward_hooks  # type: ignore[index, union-attr]
    assert layers_alike(found, found) == pytest.approx(dict.fromkeys(found, 1.0))
    other = grams(*small_model(1), x)
    assert all(value < 1 for value in layers_alike(found, other).values())


def test_no_more_rows_than_wanted_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "LAYER_ROWS", 5)
    assert grams(*small_model(), images(30))["head"].shape == (5, 5)


def test_hsic_is_its_definition_with_explicit_centring() -> None:
    x, y = drawn(12, 3), drawn(12, 4, 1)
    centre = np.eye(12) - 1 / 12

    def kernel(z: np.ndarray) -> np.ndarray:
        return np.array([[math.exp(-sum((a - b) ** 2) / (2 * z.shape[1])) for b in z] for a in z])

    assert hsic(x, y) == pytest.approx(np.trace(kernel(x) @ centre @ kernel(y) @ centre) / 11**2)
    assert hsic(x, x) > hsic(x, y) > 0
    assert hsic(np.ones((6, 2)), y[:6]) == pytest.approx(0)
    assert math.isnan(hsic(x[:1], y[:1]))


# ---- split halves


def test_splits_of_rows_like_the_test_rows_count_as_unseen() -> None:
    wide, narrow = drawn(300, 6), 0.3 * drawn(300, 6, 1)
    kinds = {"retain": narrow, "test": wide}
    held = {name: rows.astype(np.float32) for name, rows in kinds.items()}
    unseen = split_halves({**held, "forget": drawn(80, 6, 2).astype(np.float32)})
    seen = split_halves({**held, "forget": (0.3 * drawn(80, 6, 3)).astype(np.float32)})
    assert unseen["sde_out"] > 95
    assert seen["sde_out"] < 5
    assert split_halves({**held, "forget": drawn(80, 6, 2).astype(np.float32)}) == unseen


def test_too_few_rows_have_no_halves() -> None:
    rows = drawn(3, 2).astype(np.float32)
    assert split_halves({"retain": rows, "forget": rows, "test": rows}) == {}


# ---- probes


def test_a_probe_reads_what_is_linear_in_the_representations_and_nothing_else() -> None:
    labels = np.arange(200) // 2 % 4
    held = np.eye(4)[labels] + 0.01 * drawn(200, 4)
    assert probed(held.astype(np.float32), labels) == 100
    assert 10 < probed(drawn(200, 4).astype(np.float32), labels) < 45


@pytest.mark.parametrize("labels", [[], [1], [0, 1, 0], [2] * 10, [1, 0] * 5])
def test_a_probe_of_one_class_or_of_next_to_no_rows_is_nan(labels: list[int]) -> None:
    rows = drawn(len(labels), 2).astype(np.float32)
    assert math.isnan(probed(rows, np.array(labels, dtype=np.int64)))


# ---- relearning


def test_relearning_counts_steps_and_stops_at_its_goal() -> None:
    model, weights = small_model()
    x = images(64)
    rows = LabelledRows(x, torch.arange(64) % 4)
    before = {k: v.copy() for k, v in weights.items()}
    steps = relearned(model, weights, rows, target=60.0)
    assert 0 < steps < inside.STEPS
    assert inside.right(model, rows) >= 60
    assert all(np.array_equal(weights[k], before[k]) for k in weights)
    learned = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    assert relearned(model, learned, rows, target=60.0) == 0
    assert relearned(model, weights, rows, target=60.0) == steps
    assert relearned(model, weights, rows, target=90.0) > steps


def test_a_new_head_learns_from_two_percent_of_the_rows() -> None:
    """One row of ten of the forgotten class and of each remaining one is enough where classes are plain."""
    model, weights = small_model()
    kinds = images(4).repeat_interleave(50, 0)
    labels = torch.arange(4).repeat_interleave(50)
    forget, retain = labels == 3, labels != 3
    rows = {n: LabelledRows(kinds[at], labels[at]) for n, at in (("forget", forget), ("retain", retain))}
    seen: list[int] = []
    model.register_forward_hook(lambda _m, x, _o: seen.append(len(x[0])))
    assert inside.head_relearned(model, weights, rows) == 100
    assert seen == [1, 3, 49]
    assert all(np.array_equal(weights[k], v.numpy()) for k, v in model.state_dict().items())
    blind = {**weights, "extractor.0.weight": 0 * weights["extractor.0.weight"]}
    assert inside.head_relearned(model, blind, rows) == 0


def test_a_new_head_without_rows_to_score_is_nan() -> None:
    model, weights = small_model()
    one, many = (LabelledRows(images(n), torch.arange(n) % 4) for n in (1, 100))
    assert math.isnan(inside.head_relearned(model, weights, {"forget": one, "retain": many}))
    same = LabelledRows(many.x, 0 * many.y)
    assert math.isnan(inside.head_relearned(model, weights, {"forget": same, "retain": same}))


def test_relearning_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "STEPS", 3)
    model, weights = small_model()
    rows = LabelledRows(images(1).repeat(2, 1, 1, 1), torch.tensor([0, 1]))  # the same row, two labels
    assert relearned(model, weights, rows, target=100.0) == 3


def test_the_goal_is_the_accuracy_of_the_predictions_and_right_is_that_of_the_model() -> None:
    model, _ = small_model()
    rows = LabelledRows(images(50), torch.arange(50) % 10)
    with torch.no_grad():
        probabilities = functional.softmax(model(rows.x.float() / 255).logits, 1).double().numpy()
    assert inside.goal_of(probabilities, rows) == pytest.approx(inside.right(model, rows))
