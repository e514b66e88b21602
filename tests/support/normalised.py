"""A small model with BatchNorm, over three clients of twenty rows each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from fedlaf.core.types import Weights
from fedlaf.data.federation import build
from fedlaf.models import Classifier
from support.brief_methods import SPEC

LAYER = "extractor.2"
"""Where the BatchNorm is."""


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


def fresh(seed: int) -> nn.Module:
    """A network of that kind."""
    dataset = build(NORMALISED.federation).dataset
    return NORMALISED.model.build(dataset.shape, dataset.num_classes, seed)


def assert_usable(found: Weights, trained: Weights) -> None:
    """Names and kinds are those that were trained, statistics are ones that a forward pass can use."""
    assert list(found) == list(trained)
    assert all(found[k].dtype == trained[k].dtype and np.isfinite(found[k]).all() for k in found)
    assert (found[f"{LAYER}.running_var"] > 0).all()
    assert found[f"{LAYER}.num_batches_tracked"].dtype == np.int64
    assert found[f"{LAYER}.num_batches_tracked"] >= 0
    dataset = build(NORMALISED.federation).dataset
    model = fresh(0)
    model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in found.items()})
    model.eval()
    with torch.no_grad():
        assert torch.isfinite(model(dataset.test.x.float()).logits.softmax(1)).all()
