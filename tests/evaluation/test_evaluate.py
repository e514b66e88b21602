"""Who is measured, what a model predicts for them, and how far it is from the retrained one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.data import Backdoor, Backdoors, Digits, Dirichlet, Iid, LabelledRows, Rows, WrongLabels
from fedlaf.data.federation import Federation, FederationSpec, build
from fedlaf.evaluation import Evaluation, EvaluationSplits, Predictions, digest, evaluate, predict, splits_for
from fedlaf.evaluation.measures import accuracy, backdoor_success, js_divergence, tug_of_war
from fedlaf.evaluation.splits import spaced
from fedlaf.models import Classifier, SmallCnn

CLEAN = FederationSpec(Digits(train_rows=80, test_rows=40), Iid(), 4, 0)
BACKDOORED = replace(CLEAN, backdoor=Backdoor(clients=(0,), share=0.5, patch=2, target=3))


def of(federation: Federation, rows: dict[int, list[int]]) -> ForgetRequest:
    return ForgetRequest.of_samples(rows, federation.sizes)


def held(federation: Federation, rows: dict[int, list[int]]) -> LabelledRows:
    """These positions of these clients, one after the other."""
    parts = [federation.client(k).rows.at(torch.tensor(v)) for k, v in rows.items()]
    return LabelledRows(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]))


def assert_same(found: LabelledRows, expected: LabelledRows) -> None:
    assert torch.equal(found.x, expected.x)
    assert torch.equal(found.y, expected.y)


def small_model(seed: int = 0) -> tuple[Classifier, Weights]:
    model = SmallCnn().build((1, 8, 8), 10, seed)
    return model, {k: v.numpy().copy() for k, v in model.state_dict().items()}


# ---- rows of a measurement


def test_the_rows_are_what_is_forgotten_what_remains_and_the_test_set() -> None:
    federation = build(CLEAN)
    asked = {0: [0, 5, 7], 2: list(range(20))}
    found = splits_for(federation, of(federation, asked), ForgetRequest())
    assert_same(found.forget, held(federation, asked))
    rest = {0: [i for i in range(20) if i not in asked[0]], 1: list(range(20)), 3: list(range(20))}
    assert_same(found.retain, held(federation, rest))
    assert_same(found.test, federation.dataset.test)
    assert found.triggered is None


def test_rows_that_are_gone_are_in_neither() -> None:
    federation = build(CLEAN)
    asked, earlier = {0: [1, 2]}, {0: [0, 19], 1: list(range(20)), 3: [4]}
    found = splits_for(federation, of(federation, asked), of(federation, earlier))
    assert_same(found.forget, held(federation, asked))
    rest = {0: list(range(3, 19)), 2: list(range(20)), 3: [i for i in range(20) if i != 4]}
    assert_same(found.retain, held(federation, rest))


def test_rows_are_measured_as_their_clients_hold_them() -> None:
    wrong = build(replace(CLEAN, wrong_labels=WrongLabels(clients=(1,), share=1.0)))
    found = splits_for(wrong, of(wrong, {1: list(range(20))}), ForgetRequest())
    np.testing.assert_array_equal(found.forget.y.numpy(), wrong.labels[1])
    right = wrong.dataset.train.y.numpy()[wrong.parts[1]]
    assert (found.forget.y.numpy() != right).all()


def test_triggered_rows_are_test_rows_of_other_classes_with_the_trigger() -> None:
    federation = build(BACKDOORED)
    found = splits_for(federation, of(federation, {0: [0]}), ForgetRequest())
    test = federation.dataset.test
    others = test.x[test.y != 3]
    assert found.triggered is not None
    assert set(found.triggered.y.tolist()) == {3}
    assert len(found.triggered) == len(others) < len(test)
    assert (found.triggered.x[:, :, 5:7, 5:7] == 255).all()
    untouched = torch.ones(8, 8, dtype=torch.bool)
    untouched[5:7, 5:7] = False
    assert torch.equal(found.triggered.x[..., untouched], others[..., untouched])
    assert torch.equal(found.test.x, test.x)


def test_of_several_triggers_each_is_tried_on_test_rows_of_other_classes_than_its_own() -> None:
    first, second = Backdoor((0,), 0.5, 2, 3), Backdoor((1,), 0.5, 2, 5, place="upper_left")
    federation = build(replace(CLEAN, backdoor=Backdoors([first, second])))
    found = splits_for(federation, of(federation, {0: [0]}), ForgetRequest()).triggered
    test = federation.dataset.test
    others = [int((test.y != target).sum()) for target in (3, 5)]
    assert found is not None
    assert found.y.tolist() == [3] * others[0] + [5] * others[1]
    assert (found.x[: others[0], :, 5:7, 5:7] == 255).all()
    assert (found.x[others[0] :, :, 1:3, 1:3] == 255).all()


def test_clients_without_rows_do_not_disturb() -> None:
    federation = build(replace(CLEAN, partition=Dirichlet(1e-3, 0), clients=30))
    assert 0 in federation.sizes.values()
    client = max(federation.sizes, key=lambda k: federation.sizes[k])
    found = splits_for(federation, of(federation, {client: [0]}), ForgetRequest())
    assert (len(found.forget), len(found.retain)) == (1, 79)


@pytest.mark.parametrize("rows", [{}, {k: list(range(20)) for k in range(4)}])
def test_a_measurement_needs_rows_of_both_kinds(rows: dict[int, list[int]]) -> None:
    federation = build(CLEAN)
    with pytest.raises(ValueError, match="at least one row of each kind"):
        splits_for(federation, of(federation, rows), ForgetRequest())


def test_some_are_evenly_spaced_over_each_kind() -> None:
    federation = build(BACKDOORED)
    whole = splits_for(federation, of(federation, {0: [3, 4, 5]}), ForgetRequest())
    few = whole.some(5)
    assert [len(r) for r in (few.retain, few.forget, few.test)] == [5, 3, 5]
    places = torch.from_numpy(spaced(len(whole.retain), 5))
    assert torch.equal(few.retain.x, whole.retain.x[places])
    assert torch.equal(few.test.y, whole.test.y[torch.from_numpy(spaced(len(whole.test), 5))])
    assert few.triggered is not None
    assert whole.triggered is not None
    places = torch.from_numpy(spaced(len(whole.triggered), 5))
    assert torch.equal(few.triggered.x, whole.triggered.x[places])
    assert torch.equal(few.triggered.y, whole.triggered.y[places])
    assert splits_for(build(CLEAN), of(federation, {0: [3]}), ForgetRequest()).some(2).triggered is None


# ---- predictions


def test_predictions_are_the_softmax_of_the_logits_of_the_weights_given() -> None:
    federation = build(BACKDOORED)
    splits = splits_for(federation, of(federation, {0: [0, 1]}), ForgetRequest())
    model, weights = small_model(1)
    other, _ = small_model(2)
    found = predict(other, weights, splits)  # the model is a vessel: its own weights do not matter
    for probabilities, x in ((found.forget, splits.forget.x), (found.test, splits.test.x)):
        with torch.no_grad():
            logits = model(x.float() / 255).logits.double().numpy()
        raised = np.exp(logits - logits.max(1, keepdims=True))
        np.testing.assert_allclose(probabilities, raised / raised.sum(1, keepdims=True), atol=1e-6)
        assert probabilities.dtype == np.float64
    assert splits.triggered is not None
    assert found.triggered is not None
    assert found.triggered.shape == (len(splits.triggered), 10)
    assert found.retain.shape == (78, 10)


def test_predictions_are_made_in_evaluation_mode_and_keep_no_gradient() -> None:
    class Noisy(Classifier):
        def forward(self, x: torch.Tensor):  # type: ignore[no-untyped-def]
            assert not self.training
            assert not torch.is_grad_enabled()
            return super().forward(x)

    model, weights = small_model()
    noisy = Noisy(model.extractor, model.head, model.dims).train()
    federation = build(CLEAN)
    predict(noisy, weights, splits_for(federation, of(federation, {0: [0]}), ForgetRequest()))


def test_many_rows_are_predicted_in_chunks_in_their_order() -> None:
    rows = build(CLEAN).dataset.train
    many = LabelledRows(rows.x.repeat(13, 1, 1, 1), rows.y.repeat(13))  # 1,040 rows: five chunks
    one = LabelledRows(rows.x[:1], rows.y[:1])
    model, weights = small_model()
    found = predict(model, weights, EvaluationSplits(many, one, one)).retain
    assert found.shape == (1040, 10)
    np.testing.assert_allclose(found, np.tile(found[:80], (13, 1)), atol=1e-6)
    np.testing.assert_allclose(
        found[:1], predict(model, weights, EvaluationSplits(one, one, one)).test, atol=1e-6
    )


def test_no_rows_have_no_predictions_and_measures_are_nan() -> None:
    rows = build(CLEAN).dataset.test
    nothing = LabelledRows(rows.x[:0], rows.y[:0])
    model, weights = small_model()
    splits = EvaluationSplits(rows, nothing, rows)
    found = predict(model, weights, splits)
    measures = evaluate(found, splits, found).measures
    assert math.isnan(measures["accuracy_forget"])
    assert math.isnan(measures["js_forget"])
    assert measures["js_test"] == pytest.approx(0, abs=1e-12)


# ---- measures


def predictions(seed: int, *, triggered: bool = True) -> Predictions:
    stream = np.random.default_rng(seed)
    kinds = [stream.dirichlet(np.ones(3), n) for n in (6, 4, 5, 3)]
    return Predictions(kinds[0], kinds[1], kinds[2], kinds[3] if triggered else None)


def splits(*, triggered: bool = True) -> EvaluationSplits:
    stream = torch.Generator().manual_seed(0)
    parts = [
        LabelledRows(torch.zeros(n, 1, 2, 2, dtype=torch.uint8), torch.randint(3, (n,), generator=stream))
        for n in (6, 4, 5)
    ]
    marked = LabelledRows(parts[0].x[:3], torch.ones(3, dtype=torch.int64))
    return EvaluationSplits(*parts, marked if triggered else None)


def right(model: Predictions, rows: EvaluationSplits) -> list[float]:
    kinds = ("retain", "forget", "test")
    return [accuracy(getattr(model, kind), getattr(rows, kind).y.numpy()) for kind in kinds]


def test_each_measure_is_that_of_its_own_rows() -> None:
    found, reference, rows = predictions(0), predictions(1), splits()
    measures = evaluate(found, rows, reference).measures
    assert found.triggered is not None
    assert dict(measures) == {
        "accuracy_retain": accuracy(found.retain, rows.retain.y.numpy()),
        "accuracy_forget": accuracy(found.forget, rows.forget.y.numpy()),
        "accuracy_test": accuracy(found.test, rows.test.y.numpy()),
        "backdoor_success": backdoor_success(found.triggered, np.ones(3, np.int64)),
        "js_retain": js_divergence(found.retain, reference.retain),
        "js_forget": js_divergence(found.forget, reference.forget),
        "js_test": js_divergence(found.test, reference.test),
        "tow": tug_of_war(*([right(model, rows) for model in (found, reference)])),
    }
    assert len(set(measures.values())) > 4


def test_without_a_reference_or_a_trigger_their_measures_are_absent() -> None:
    plain = evaluate(predictions(0, triggered=False), splits(triggered=False)).measures
    assert list(plain) == ["accuracy_retain", "accuracy_forget", "accuracy_test"]


def test_the_gap_is_the_mean_distance_in_points_over_percentages() -> None:
    found = Evaluation(
        {"accuracy_retain": 90.0, "accuracy_forget": 20.0, "accuracy_test": 85.0, "js_test": 0.9}
    )
    other = Evaluation(
        {"accuracy_retain": 92.0, "accuracy_forget": 12.0, "accuracy_test": 85.0, "js_test": 0.0}
    )
    assert found.gap(other) == pytest.approx((2 + 8 + 0) / 3)
    assert found.gap(other) == other.gap(found)
    assert found.gap(found) == 0


def test_the_gap_counts_the_backdoor_where_there_is_one() -> None:
    found = Evaluation({"accuracy_test": 80.0, "backdoor_success": 10.0})
    assert found.gap(Evaluation({"accuracy_test": 80.0, "backdoor_success": 4.0})) == 3


def test_the_gap_leaves_out_what_is_nan_or_missing_on_either_side() -> None:
    full = Evaluation({"accuracy_test": 80.0, "accuracy_forget": 30.0})
    part = Evaluation({"accuracy_test": 78.0, "accuracy_forget": float("nan")})
    assert full.gap(part) == 2
    assert part.gap(full) == 2
    less = Evaluation({"accuracy_test": 78.0})
    assert less.gap(full) == 2
    assert full.gap(less) == 2


def test_the_gap_of_nothing_in_common_is_nan_without_a_warning() -> None:
    nothing = Evaluation({"accuracy_test": float("nan")})
    assert math.isnan(nothing.gap(nothing))


def with_inputs(rows: Rows | LabelledRows, x: torch.Tensor) -> Rows | LabelledRows:
    return LabelledRows(x, rows.y) if isinstance(rows, LabelledRows) else Rows(x)


def test_the_digest_tells_weights_and_rows_of_every_kind_apart() -> None:
    federation = build(BACKDOORED)
    _, weights = small_model()
    base = splits_for(federation, of(federation, {0: [1, 2]}), ForgetRequest())
    found = [digest(weights, base), digest(small_model(1)[1], base)]
    for kind in ("retain", "forget", "test", "triggered"):
        rows = getattr(base, kind)
        changed = rows.x.clone()
        changed[-1, 0, 0, 0] ^= 1
        found.append(digest(weights, replace(base, **{kind: with_inputs(rows, changed)})))
    found.append(digest(weights, replace(base, triggered=None)))
    assert len(set(found)) == len(found)
    assert digest(weights, base) == digest({k: v.copy() for k, v in weights.items()}, replace(base))
