"""The two kinds of methods, as the pipeline runs them."""

from __future__ import annotations

from flwr.serverapp import Grid

from fedlaf.core.types import Weights
from fedlaf.method.contract import Stage, StageResult
from fedlaf.strategies.base.method import PhasedMethod
from fedlaf.strategies.base.rounds import Rounds


class TrainStrategy(PhasedMethod):
    """A method that trains from initial weights."""

    def run(self, grid: Grid, weights: Weights, stage: Stage) -> StageResult:
        """Run all phases by Flower's own loop. Raises RoundFailed."""
        return Rounds(self, weights, stage).run(grid)


class ForgetStrategy(TrainStrategy):
    """A method that serves a `ForgetRequest`, starting from the trained weights."""
