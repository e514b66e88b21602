"""What tests of LAF in closed form start from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedlaf.client import ClientSpec
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.data.federation import build
from fedlaf.method.contract import ClientRegistry, MethodInputs, Stage
from fedlaf.objectives import Fit
from fedlaf.strategies.fedavg import FedAvg
from support.federations import enrolled, initial_weights


def stage(spec: ClientSpec, registry: ClientRegistry, request: ForgetRequest) -> Stage:
    """The stage of a request, with fresh models of the specification's kind."""
    dataset = build(spec.federation).dataset
    inputs = MethodInputs(fresh=lambda seed: spec.model.build(dataset.shape, dataset.num_classes, seed))
    return Stage("request-1", 0, replace(registry, request=request), inputs=inputs)


def trained_by(spec: ClientSpec) -> Weights:
    """A model that tells the rows of the specification's clients well apart."""
    grid, registry = enrolled(spec)
    method = FedAvg(rounds=1, fit=Fit(lr=5e-3, epochs=12))
    return method.run(grid, initial_weights(spec), Stage("train", 0, registry)).weights


def wide(weights: Weights) -> Weights:
    """In float64, so that the solution is not rounded to float32."""
    return {name: array.astype(np.float64) for name, array in weights.items()}
