"""A short run that trains and then forgets a client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fedlaf.client import ClientSpec
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.method.contract import Stage
from fedlaf.objectives.classification import Fit
from fedlaf.strategies.base.strategy import ForgetStrategy
from fedlaf.strategies.fedavg import FedAvg
from support.federations import enrolled, initial_weights


def train_and_withdraw(
    spec: ClientSpec, methods: Mapping[str, ForgetStrategy], fit: Fit
) -> dict[str, Weights]:
    """Train two rounds (`trained`), then withdraw client 0 by each method, from the same trained weights."""
    grid, registry = enrolled(spec)
    trained = FedAvg(rounds=2, fit=fit).run(grid, initial_weights(spec), Stage("train", 0, registry)).weights
    asked = Stage("request-1", 0, replace(registry, request=ForgetRequest.of_clients([0], registry.sizes)))
    return {"trained": trained, **{name: m.run(grid, trained, asked).weights for name, m in methods.items()}}
