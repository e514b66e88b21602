"""Membership attacks beside an independent implementation, the Adversarial Robustness Toolbox (ART).

    pip install adversarial-robustness-toolbox        # it is no dependency of fedlaf
    python -m benchmarks.attacks
    python -m benchmarks.attacks experiment=trial     # any KEY=VALUE of a run

A federation is trained on all its rows until it has learned them by heart. Both implementations learn on the
same known rows and are scored on the same others, from the same losses and sorted predictions: ART's logistic
regression of the loss must rank as the loss itself does, its boosted trees are another implementation.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from hydra import compose, initialize_config_module
from sklearn.metrics import roc_auc_score

from fedlaf.client import make_client_app
from fedlaf.client.runtime import resident_model
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.evaluation import membership_attacks, predict, sides_of, splits_for
from fedlaf.evaluation.attacks import log_likelihood
from fedlaf.experiment import config as configuration
from fedlaf.experiment.plan import Plan, prepare
from fedlaf.method.contract import Stage
from fedlaf.protocol.enrolment import enrol
from fedlaf.report.tables import markdown

BY_HEART = (
    "data=fashion_sample", "corruption=none", "engine=inline", "train.rounds=30", "train.fit.lr=2e-3",
    "train.fit.epochs=4", "data.train_rows=1500", "request.clients=[0,1,2,3]",
)  # fmt: skip
PAIRS = {"loss": ("loss", "lr"), "trees": ("prediction", "gb")}
"""Our attack, and the input and the attack model of ART's that is like it."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    overrides = parser.parse_args().overrides or list(BY_HEART)
    configuration.register()
    with initialize_config_module("fedlaf.conf", version_base="1.3"):
        plan = prepare(compose("config", overrides=overrides))
    torch.set_num_threads(1)
    splits = splits_for(plan.federation, plan.schedule[0][1], ForgetRequest())
    found = predict(resident_model(plan.spec), trained(plan), splits)
    sides = sides_of(splits, plan.most_rows)
    ours = membership_attacks(found, splits, sides)
    places = (
        ("retain", sides.known_in),
        ("test", sides.known_out),
        ("forget", sides.in_),
        ("test", sides.out),
    )
    seen = [found.of(kind)[at] for kind, at in places]
    labels = [getattr(splits, kind).y.numpy()[at] for kind, at in places]
    rows = [["attack", "AUC, fedlaf (%)", "AUC, ART (%)", "accuracy, fedlaf (%)", "accuracy, ART (%)"]]
    for name, (kind, model) in PAIRS.items():
        auc, accuracy = by_art(kind, model, seen, labels)
        own = (ours[f"mia_{name}_auc"], ours[f"mia_{name}_accuracy"])
        rows.append([name, f"{own[0]:.1f}", f"{auc:.1f}", f"{own[1]:.1f}", f"{accuracy:.1f}"])
    print(markdown(rows))


def trained(plan: Plan) -> Weights:
    """The model trained on all rows."""
    told: list[Weights] = []
    server = ServerApp()

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        registry = enrol(grid, expected=len(plan.federation), timeout=plan.timeout)
        start = plan.initial_weights()
        told.append(plan.train.run(grid, start, Stage("train", plan.seed, registry)).weights)

    plan.engine.run(server, make_client_app(plan.spec), len(plan.federation))
    return told[0]


def by_art(
    kind: str, model: str, seen: list[npt.NDArray[Any]], labels: list[npt.NDArray[np.int64]]
) -> tuple[float, float]:
    """AUC and balanced accuracy (%) of ART's attack; rows are known in and out, then members and others."""
    try:
        from art.attacks.inference.membership_inference import MembershipInferenceBlackBox
        from art.estimators.classification import BlackBoxClassifierNeuralNetwork
    except ImportError:
        sys.exit("pip install adversarial-robustness-toolbox, against which this is held")

    class Victim(BlackBoxClassifierNeuralNetwork):  # type: ignore[misc]
        """A victim whose inputs are the features already."""

        def compute_loss(self, x: Any, y: Any, **_: Any) -> Any:
            return x[:, 0]

    given = [np.sort(one, axis=1) for one in seen]
    if kind == "loss":
        given = [-log_likelihood(one, y)[:, None] for one, y in zip(seen, labels, strict=True)]
    classes = given[0].shape[1]
    attack = MembershipInferenceBlackBox(
        Victim(lambda x: x, (classes,), max(classes, 2)), input_type=kind, attack_model_type=model
    )
    same = [np.eye(2)[np.zeros(len(one), int)] for one in given]  # it would add labels to the features
    attack.fit(given[0], same[0], given[1], same[1], pred=given[0], test_pred=given[1])
    likely = [
        np.asarray(attack.infer(x, y, pred=x, probabilities=True)).reshape(len(x), -1)[:, -1]
        for x, y in zip(given[2:], same[2:], strict=True)
    ]
    truth = np.repeat([1, 0], [len(one) for one in likely])
    right = (float((likely[0] >= 0.5).mean()) + float((likely[1] < 0.5).mean())) / 2
    return 100.0 * float(roc_auc_score(truth, np.concatenate(likely))), 100.0 * right


if __name__ == "__main__":
    main()
