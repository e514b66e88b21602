"""Every kind of client step on a model with BatchNorm: statistics stay ones that a forward pass can use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from support.brief_methods import METHODS, SPEC
from support.federations import enrolled, initial_weights
from torch import nn

from fedlaf.core.request import ForgetRequest
from fedlaf.data.federation import build
from fedlaf.method.contract import MethodInputs, Stage
from fedlaf.models import Classifier
from fedlaf.objectives import Fit
from fedlaf.strategies.fedavg import FedAvg


@dataclass(frozen=True)
class Normalised:
    """A hidden layer with BatchNorm, and a linear layer that ends the extractor."""

    def build(self, shape: Any, num_classes: int, seed: int) -> Classifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            extractor = nn.Sequential(
                nn.Flatten(), nn.Linear(prod(shape), 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8)
            )
            return Classifier(extractor, nn.Linear(8, num_classes), 8)


NORMALISED = replace(SPEC, model=Normalised())


@pytest.mark.parametrize("name", METHODS)
def test_a_model_with_batch_norm_comes_out_usable(name: str) -> None:
    grid, registry = enrolled(NORMALISED)
    start = initial_weights(NORMALISED)
    trained = FedAvg(12, fit=Fit(lr=1e-2)).run(grid, start, Stage("train", 0, registry)).weights
    assert not np.array_equal(trained["extractor.2.running_mean"], start["extractor.2.running_mean"])
    request = ForgetRequest.of_samples({0: range(20), 1: range(12)}, registry.sizes)

    def fresh(seed: int) -> nn.Module:
        return NORMALISED.model.build(dataset.shape, dataset.num_classes, seed)

    dataset = build(NORMALISED.federation).dataset
    inputs = MethodInputs(start=start, fresh=fresh)
    stage = Stage("request-1", 0, replace(registry, request=request, trained=1), inputs=inputs)
    found = METHODS[name].run(grid, trained, stage).weights
    assert list(found) == list(trained)
    assert all(found[k].dtype == trained[k].dtype and np.isfinite(found[k]).all() for k in found)
    assert (found["extractor.2.running_var"] > 0).all()
    assert found["extractor.2.num_batches_tracked"] >= 0
    model = NORMALISED.model.build(dataset.shape, dataset.num_classes, 0)
    model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in found.items()})
    model.eval()
    with torch.no_grad():
        probabilities = model(dataset.test.x.float()).logits.softmax(1)
    assert torch.isfinite(probabilities).all()
