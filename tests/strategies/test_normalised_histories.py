"""Methods that use what training left, on a model with BatchNorm, from training to what comes out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support.federations import enrolled, initial_weights, same_bits
from support.normalised import LAYER, NORMALISED, assert_usable, fresh

from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.core.weights import trainable
from fedlaf.core.whole_file import save_arrays
from fedlaf.data import as_input
from fedlaf.data.federation import build
from fedlaf.method.contract import MethodInputs, Stage
from fedlaf.method.history_writer import HistoryWriter
from fedlaf.method.update_history import HistoryHandle, HistorySpec, UpdateHistory
from fedlaf.objectives import Ascend, Distil, Fit
from fedlaf.strategies.conda import ConDa
from fedlaf.strategies.fast_fedul import FastFedUl
from fedlaf.strategies.fedaccum import FedAccum
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.federaser import FedEraser
from fedlaf.strategies.fukd import Fukd
from fedlaf.strategies.pgd import Pgd

FIT = Fit(lr=1e-2, batch_size=8)
ROUNDS, BATCHES = 4, 3
COUNT, MEAN, VARIANCE = f"{LAYER}.num_batches_tracked", f"{LAYER}.running_mean", f"{LAYER}.running_var"
STATISTICS = (MEAN, VARIANCE)
METHODS: dict[str, Any] = {
    "federaser": FedEraser(every=1, ratio=1.0, fit=FIT),
    "fedaccum": FedAccum(),
    "fast_fedul": FastFedUl(),
    "conda": ConDa(cutoff=2.0),
    "fukd": Fukd(Distil(epochs=2, batch_size=8)),
    "pgd": Pgd(rounds=1, fit=FIT, ascend=Ascend(lr=1e-3, epochs=1, batch_size=8)),
}
COUNTS = {
    "federaser": ROUNDS * BATCHES, "fedaccum": ROUNDS * BATCHES, "fast_fedul": ROUNDS * BATCHES,
    "conda": ROUNDS * BATCHES, "fukd": ROUNDS * BATCHES + 2 * 5,
}  # fmt: skip
"""Batches that the model has seen when it comes out, where each client that trains sees as many."""


class Trained(NamedTuple):
    """A training, and what it left."""

    start: Weights
    weights: Weights
    history: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("history")
    keep = HistorySpec(every=1, last=True, magnitudes=True)
    grid, registry = enrolled(NORMALISED)
    start = initial_weights(NORMALISED)
    stage = Stage("train", 0, registry, history_writer=HistoryWriter(HistoryHandle(keep, folder)))
    return Trained(start, FedAvg(ROUNDS, fit=FIT).run(grid, start, stage).weights, folder)


def served(method: Any, trained: Trained, history: Path | None = None) -> Weights:
    """The model after client 0 has withdrawn."""
    grid, registry = enrolled(NORMALISED)
    rows = as_input(build(NORMALISED.federation).dataset.test.x[:40], torch.device("cpu"))
    kept = UpdateHistory([history or trained.history], method.history_spec)
    request = ForgetRequest.of_clients([0], registry.sizes)
    asked = replace(registry, request=request, trained=ROUNDS)
    inputs = MethodInputs(trained.start, kept, rows, fresh)
    found: Weights = method.run(grid, trained.weights, Stage("request-1", 0, asked, inputs=inputs)).weights
    return found


def test_training_counts_its_batches(trained: Trained) -> None:
    assert trained.weights[COUNT] == ROUNDS * BATCHES
    assert_usable(trained.weights, trained.start)


def test_norms_of_stored_updates_are_those_of_trainable_weights(trained: Trained) -> None:
    for folder in (trained.history / "updates").iterdir():
        norms = json.loads((folder / "index.json").read_text())["norms"]
        assert len(norms) == 3
        for client, norm in norms.items():
            update = load_file(folder / f"client-{int(client):04d}.safetensors")
            assert update[COUNT] == BATCHES
            learned = [v.ravel() for k, v in update.items() if k.endswith((".weight", ".bias"))]
            assert norm == pytest.approx(np.linalg.norm(np.concatenate(learned).astype(float)))


@pytest.mark.parametrize("name", METHODS)
def test_a_model_with_batch_norm_comes_out_usable(name: str, trained: Trained) -> None:
    found = served(METHODS[name], trained)
    assert_usable(found, trained.weights)
    assert not same_bits(trainable(found), trainable(trained.weights))
    if name in COUNTS:
        assert found[COUNT] == COUNTS[name]
    if name in ("fedaccum", "fast_fedul", "conda"):  # nobody has seen a row since
        assert all(np.array_equal(found[k], trained.weights[k]) for k in STATISTICS)


@pytest.mark.parametrize("name", ["federaser", "fedaccum", "fast_fedul", "conda"])
def test_what_is_stored_of_statistics_has_no_part_in_the_weights(
    name: str, trained: Trained, tmp_path: Path
) -> None:
    """A hundred times as large in the history, they change no bit of what is learned."""
    inflated = tmp_path / "history"
    shutil.copytree(trained.history, inflated)
    for path in inflated.rglob("*.safetensors"):
        arrays = load_file(path)
        save_arrays(path, {k: v * (100 if k in (*STATISTICS, COUNT) else 1) for k, v in arrays.items()})
    plain, other = (served(METHODS[name], trained, history) for history in (None, inflated))
    assert same_bits(trainable(plain), trainable(other))


@pytest.mark.parametrize("name", ["federaser", "fedaccum", "fast_fedul", "conda"])
def test_running_variances_stay_positive_where_a_difference_would_be_negative(
    name: str, trained: Trained, tmp_path: Path
) -> None:
    """Of the client that leaves, updates take away more variance than there is."""
    tilted = tmp_path / "history"
    shutil.copytree(trained.history, tilted)
    for path in tilted.rglob("client-0000.safetensors"):
        arrays = load_file(path)
        save_arrays(path, {k: v + (50 if k == VARIANCE else 0) for k, v in arrays.items()})
    assert_usable(served(METHODS[name], trained, tilted), trained.weights)
