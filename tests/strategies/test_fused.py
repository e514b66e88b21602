"""FUSED: what may change does, the rest keeps its bits, messages are sparse, and it can be taken back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.federations import RecordingGrid, enrolled, initial_weights, same_bits, small_spec
from torch.nn import functional

from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.data.federation import build
from fedlaf.method.contract import Stage, StageResult
from fedlaf.models import SmallCnn
from fedlaf.models.arrays import load_weights
from fedlaf.objectives import Fit, SparseFit
from fedlaf.protocol.messages import Part
from fedlaf.protocol.sparse_updates import packed, unpacked, updated
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.fused import Fused, most_changed

SIZES = dict.fromkeys(range(4), 100)
LEAVES = ForgetRequest.of_clients([0], SIZES)
SPEC = small_spec(4)


@pytest.fixture(scope="module")
def trained() -> Weights:
    grid, registry = enrolled(SPEC)
    return FedAvg(3, fit=Fit(lr=3e-3)).run(grid, initial_weights(SPEC), Stage("train", 0, registry)).weights


def served(
    method: Fused, weights: Weights, request: ForgetRequest = LEAVES
) -> tuple[StageResult, RecordingGrid]:
    grid, registry = enrolled(SPEC)
    wire = RecordingGrid(grid)
    return method.run(wire, weights, Stage("request-1", 0, replace(registry, request=request))), wire


def test_layers_are_ranked_by_their_mean_change() -> None:
    before = {
        "a.weight": np.zeros((2, 2)), "a.bias": np.zeros(2), "b.weight": np.zeros((1, 4)),
        "n.running_mean": np.zeros((2, 2)),
    }  # fmt: skip
    after = {
        "a.weight": np.full((2, 2), -0.5), "a.bias": np.full(2, 9.0), "b.weight": np.array([[0, 0, 0, 3.0]]),
        "n.running_mean": np.full((2, 2), 7.0),
    }  # fmt: skip
    assert most_changed(before, after, 5) == ["b.weight", "a.weight"]
    assert most_changed(before, after, 1) == ["b.weight"]


@pytest.mark.parametrize("size", [1, 7, 8, 9, 33])
def test_masks_cross_the_wire_as_bits(size: int) -> None:
    mask = {"w": np.random.default_rng(size).random((1, size)) < 0.5}
    assert packed(mask)["w"].nbytes == -(-size // 8)
    assert np.array_equal(unpacked(packed(mask), {"w": np.zeros((1, size))})["w"], mask["w"])
    base = {"w": np.arange(float(size), dtype=np.float32)[None], "b": np.ones(2)}
    found = updated(base, mask, {"w": np.ones(int(mask["w"].sum()))})
    assert np.array_equal(found["w"], base["w"] + mask["w"])
    assert found["b"] is base["b"]


def test_only_the_update_changes_and_only_it_is_sent(trained: Weights) -> None:
    result, wire = served(Fused(rounds=2, layers=2, share=0.2), trained)
    changed = {name: int((result.weights[name] != array).sum()) for name, array in trained.items()}
    touched = [name for name, count in changed.items() if count]
    assert len(touched) == 2
    for name in touched:
        assert 0 < changed[name] < 0.35 * trained[name].size
    whole = sum(array.nbytes for array in trained.values())
    kinds: dict[str, list[int]] = {}
    for message in [*wire.sent, *wire.replies]:
        parts = message.content.array_records
        size = sum(len(array.data) for record in parts.values() for array in record.values())
        kinds.setdefault(message.metadata.message_type, []).append(size)
    assert all(size >= whole for size in kinds["train.fit_and_keep"])
    assert all(0 < size < 0.35 * whole for size in kinds["train.sparse_fit"])
    assert {client for record in result.records for client in record.asked} == {1, 2, 3}
    for message in wire.replies:
        if message.metadata.message_type == "train.sparse_fit":
            assert set(message.content.array_records) == {Part.UPDATE}


def test_a_request_is_taken_back_with_the_bits_of_before(trained: Weights) -> None:
    result, _ = served(Fused(rounds=2, share=0.3), trained)
    assert not same_bits(result.weights, trained)
    mask = {name: result.weights[name] != trained[name] for name in trained}
    back = {name: np.where(mask[name], trained[name], array) for name, array in result.weights.items()}
    assert same_bits(back, trained)


def test_one_step_is_the_obvious_one(trained: Weights) -> None:
    """One batch of all rows of each client, plain gradient descent: the mean over clients of masked steps."""
    fit = SparseFit(optimizer="sgd", lr=0.1, batch_size=100)
    result, _ = served(Fused(fit=fit, rounds=1, layers=1, share=1.0), trained)
    (name,) = [name for name, array in trained.items() if not np.array_equal(array, result.weights[name])]
    steps = []
    for client in (1, 2, 3):
        rows = build(SPEC.federation).client(client).rows
        model = SmallCnn().build((1, 8, 8), 10, 0)
        load_weights(model, trained)
        functional.cross_entropy(model(rows.x.float() / 255).logits, rows.y).backward()  # type: ignore[no-untyped-call]
        slope = dict(model.named_parameters())[name].grad
        assert slope is not None
        steps.append(-0.1 * slope.numpy())
    expected = trained[name] + np.mean(steps, axis=0)
    np.testing.assert_allclose(result.weights[name], expected, rtol=1e-4, atol=1e-6)


def test_the_same_request_gives_the_same_bits_again(trained: Weights) -> None:
    request = ForgetRequest.of_samples({0: range(30), 2: [5]}, SIZES)
    first, second = (served(Fused(rounds=1), trained, request)[0].weights for _ in range(2))
    assert same_bits(first, second)
