"""Every kind of client step on a model with BatchNorm: statistics stay ones that a forward pass can use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.brief_methods import METHODS
from support.federations import enrolled, initial_weights
from support.normalised import NORMALISED, assert_usable, fresh

from fedlaf.core.request import ForgetRequest
from fedlaf.method.contract import MethodInputs, Stage
from fedlaf.objectives import ClosedForm, Fit
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.gradient_ascent import GradientAscent
from fedlaf.strategies.laf_counts import LafCounts
from fedlaf.strategies.laf_repair import LafRepair
from fedlaf.strategies.retrain import Retrain
from fedlaf.strategies.weight_negation import WeightNegation

ALL: dict[str, Any] = METHODS | {
    "laf_counts": LafCounts(ClosedForm(min_rows=1)),
    "laf_repair": LafRepair(ClosedForm(min_rows=1)),
    "not": WeightNegation(rounds=1, fit=Fit(lr=1e-3)),
    "gradient_ascent": GradientAscent(recover_rounds=1),
    "retrain": Retrain(rounds=2, fit=Fit(lr=1e-2)),
}


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
