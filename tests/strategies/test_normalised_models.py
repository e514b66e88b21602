"""Every kind of client step on a model with BatchNorm: statistics stay ones that a forward pass can use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.brief_methods import METHODS, MORE
from support.federations import enrolled, initial_weights
from support.normalised import NORMALISED, assert_usable, fresh

from fedlaf.core.request import ForgetRequest
from fedlaf.method.contract import MethodInputs, Stage
from fedlaf.objectives import Fit
from fedlaf.strategies.fedavg import FedAvg

ALL = METHODS | MORE


@pytest.mark.parametrize("name", ALL)
def test_a_model_with_batch_norm_comes_out_usable(name: str) -> None:
    grid, registry = enrolled(NORMALISED)
    start = initial_weights(NORMALISED)
    trained = FedAvg(12, fit=Fit(lr=1e-2)).run(grid, start, Stage("train", 0, registry)).weights
    assert not np.array_equal(trained["extractor.2.running_mean"], start["extractor.2.running_mean"])
    request = ForgetRequest.of_samples({0: range(20), 1: range(12)}, registry.sizes)

    inputs = MethodInputs(start=start, fresh=fresh)
    stage = Stage("request-1", 0, replace(registry, request=request, trained=1), inputs=inputs)
    found = ALL[name].run(grid, trained, stage).weights
    assert_usable(found, trained)
