"""How good the published model is on test rows, round by round, and on any rows that are named."""

from __future__ import annotations

import torch

from fedlaf.client.runtime import measured_model
from fedlaf.core.cost import Cost
from fedlaf.core.types import Weights
from fedlaf.data import LabelledRows
from fedlaf.data.federation import Federation
from fedlaf.evaluation import probabilities, spaced
from fedlaf.evaluation.measures import accuracy
from fedlaf.experiment.curve import Curve
from fedlaf.experiment.plan import Plan
from fedlaf.method.contract import RoundRecord
from fedlaf.models import Classifier
from fedlaf.report import Point

FEW = 1000
"""Test rows that the published model is measured on after each service, at most."""


class TestCurve(Curve):
    """Accuracy on a few test rows after each round that changes the weights; `spent` is the cost so far."""

    __test__ = False  # no test, whatever pytest thinks of its name

    def __init__(
        self, stage: str, plan: Plan, skip: int, weights: Weights, rows: LabelledRows | None
    ) -> None:
        super().__init__(stage, plan, None, skip, weights)
        self.rows = rows
        self.spent = Cost()

    def follow(self, record: RoundRecord, weights: Weights) -> None:
        """A round ended with `weights`."""
        self.spent += record.cost
        self.passes += record.cost.passes
        self.round += 1
        if self.rows is None or weights is self.last:
            return
        self.last = weights
        found = accuracy_on(model_of(self.plan, weights), self.rows)
        self.points.append(Point(self.stage, self.round, self.passes, {"accuracy_test": found}))


def few_of_test(federation: Federation, most: int) -> LabelledRows:
    """At most `most` test rows, evenly spaced."""
    test = federation.dataset.test
    return test.at(torch.from_numpy(spaced(len(test), most)))


def model_of(plan: Plan, weights: Weights) -> Classifier:
    """The network that measurements are made with, holding `weights`."""
    model = measured_model(plan.spec)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return model


def accuracy_on(model: Classifier, rows: LabelledRows) -> float:
    """Percent of the rows that the model gets right; NaN for none."""
    return accuracy(probabilities(model, rows.x), rows.y.numpy())
