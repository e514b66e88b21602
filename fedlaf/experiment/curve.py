"""The curve of a stage: measures on a few rows, round by round."""

from __future__ import annotations

from fedlaf.client.runtime import measured_model
from fedlaf.core.types import Weights
from fedlaf.evaluation import EvaluationSplits, evaluate, predict
from fedlaf.experiment.plan import Plan
from fedlaf.method.contract import RoundRecord
from fedlaf.report import Point


class Curve:
    """Measures on a few rows after each round that changes the weights."""

    def __init__(
        self, stage: str, plan: Plan, few: EvaluationSplits | None, skip: int, weights: Weights
    ) -> None:
        self.stage, self.plan, self.few, self.round = stage, plan, few, skip
        self.last = weights
        self.passes = 0.0
        self.points: list[Point] = []

    def follow(self, record: RoundRecord, weights: Weights) -> None:
        """A round ended with `weights`."""
        self.passes += record.cost.passes
        if self.few is None or weights is self.last:
            return
        self.last = weights
        seen = predict(measured_model(self.plan.spec), weights, self.few)
        self.round += 1
        measures = evaluate(seen, self.few).measures
        self.points.append(Point(self.stage, self.round, self.passes, measures))
