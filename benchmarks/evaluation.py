"""What measuring costs: one model with all measures that every run has, against one retraining.

    python -m benchmarks.evaluation [KEY=VALUE ...]

Trains the federated trial once (the full Fashion-MNIST, 20,000 rows, inline, one thread) for the
retraining's time, then measures the model, part by part. Both run in one thread of this process, and
their processor seconds are compared: those of the clock depend on who else is at work. Prints a table and
a line of JSON; the exit code is 1 when measuring takes more than 15 % of what retraining takes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from time import process_time
from typing import TypeVar

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from hydra import compose, initialize_config_module

from fedlaf.client import make_client_app
from fedlaf.client.runtime import device_of, resident_model
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.evaluation import (
    Predictions,
    difference_attack,
    evaluate,
    leakage,
    likelihood_ratios,
    membership_attacks,
    predict,
    probabilities,
    sides_of,
    splits_for,
    zero_retrain_forgetting,
)
from fedlaf.experiment import config as configuration
from fedlaf.experiment.plan import Plan, prepare
from fedlaf.method.contract import ClientRegistry, Stage
from fedlaf.protocol.enrolment import enrol
from fedlaf.report.tables import markdown

MOST = 10.0
"""Percent of retraining's time that measuring one model may take."""

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    overrides = ["experiment=trial", "engine=inline", *parser.parse_args().overrides]
    configuration.register()
    with initialize_config_module("fedlaf.conf", version_base="1.3"):
        plan = prepare(compose("config", overrides=overrides))
    weights, retraining = retrained(plan)
    seconds = measuring(plan, weights)
    whole = sum(seconds.values())
    rows = [["", "processor seconds", "% of retraining"]]
    for name, spent in {**seconds, "measuring one model": whole, "retraining": retraining}.items():
        rows.append([name, f"{spent:.2f}", f"{100 * spent / retraining:.1f}"])
    print(markdown(rows))
    share = 100 * whole / retraining
    print(json.dumps({"retraining": retraining, "measuring": seconds, "share_percent": share}))
    sys.exit(share > MOST)


def retrained(plan: Plan) -> tuple[Weights, float]:
    """The model retrained without the rows of the first request, and the processor seconds that it took."""
    told: list[tuple[Weights, float]] = []
    server = ServerApp()

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        registry = enrol(grid, expected=len(plan.federation), timeout=plan.timeout)
        _, request = plan.schedule[0]
        left = ClientRegistry(registry.nodes, registry.sizes, removed=request)
        fresh = {k: v.numpy().copy() for k, v in plan.fresh(plan.seed).state_dict().items()}
        clock = process_time()
        outcome = plan.train.run(grid, fresh, Stage("train", plan.seed, left))
        told.append((outcome.weights, process_time() - clock))

    plan.engine.run(server, make_client_app(plan.spec), len(plan.federation))
    return told[0]


def measuring(plan: Plan, weights: Weights) -> dict[str, float]:
    """The processor seconds of each part of measuring one model, with one reference."""
    spent: dict[str, float] = {}

    def timed(name: str, call: Callable[[], T]) -> T:
        clock = process_time()
        found = call()
        spent[name] = process_time() - clock
        return found

    splits = splits_for(plan.federation, plan.schedule[0][1], ForgetRequest())
    torch.set_num_threads(1)  # as inside a run
    network, untrained = resident_model(plan.spec), plan.fresh(1).to(device_of(plan.spec))
    most = plan.most_rows

    found: Predictions = timed("predictions", lambda: predict(network, weights, splits, represented=most))
    timed("accuracies, divergences, fairness, ToW, L2", lambda: evaluate(found, splits, found))
    timed("difference attack", lambda: difference_attack(found, found, splits, most))
    timed("leakage of retained rows", lambda: leakage(found, found, splits, most))
    sides = sides_of(splits, most)
    timed("membership attacks", lambda: membership_attacks(found, splits, sides))
    timed("RMIA", lambda: likelihood_ratios(found, [found], splits, sides))
    base = timed("predictions of an untrained model", lambda: probabilities(untrained, splits.forget.x))
    timed("ZRF", lambda: zero_retrain_forgetting(found.forget, base))
    return spent


if __name__ == "__main__":
    main()
