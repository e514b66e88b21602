"""The curve of a stage: measures on a few rows, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedlaf.client.runtime import measured_model
from fedlaf.core.types import Weights
from fedlaf.data import Rows
from fedlaf.evaluation import EvaluationSplits, evaluate, predict, represent
from fedlaf.experiment.plan import Plan
from fedlaf.method.contract import RoundRecord
from fedlaf.report import Point, shown_rows


@dataclass(frozen=True)
class Followed:
    """Rows that a stage is followed on: a few of each kind, and the forgotten ones that the page draws."""

    few: EvaluationSplits
    drawn: Rows

    @classmethod
    def of(cls, splits: EvaluationSplits, most: int) -> Followed | None:
        """At most `most` rows of each kind; None where none are wanted."""
        return cls(splits.some(most), shown_rows(splits).forget.unlabelled()) if most else None


class Curve:
    """Measures on a few rows after each round that changes the weights."""

    def __init__(
        self, stage: str, plan: Plan, followed: Followed | None, skip: int, weights: Weights
    ) -> None:
        self.stage, self.plan, self.followed, self.round = stage, plan, followed, skip
        self.last = weights
        self.passes = 0.0
        self.points: list[Point] = []

    def go_on(self, points: Sequence[Point], round_: int, passes: float, weights: Weights) -> None:
        """Begin after a round that an earlier process has followed, with `weights`."""
        self.points, self.round, self.passes, self.last = list(points), round_, passes, weights

    def follow(self, record: RoundRecord, weights: Weights) -> Point | None:
        """A round ended with `weights`: its point, where it has one."""
        self.passes += record.cost.passes
        self.round += 1
        if self.followed is None or weights is self.last:
            return None
        self.last = weights
        network = measured_model(self.plan.spec)
        found = evaluate(predict(network, weights, self.followed.few), self.followed.few)
        inner = represent(network, self.followed.drawn).astype(np.float16)
        point = Point(self.stage, self.round, self.passes, found.measures, found.by_class, inner)
        self.points.append(point)
        return point
