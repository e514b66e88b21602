"""SIFU (Fraboni et al., AISTATS 2024): back to the last model on which the withdrawn clients had little
influence, noise that hides what there is, and training again from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log, sqrt
from typing import ClassVar, NamedTuple

import numpy as np
from flwr.serverapp import Grid

from fedlaf.core.errors import require_number
from fedlaf.core.seeding import numpy_stream
from fedlaf.core.types import ClientId, Weights
from fedlaf.core.weights import is_trainable
from fedlaf.method.contract import ClientRegistry, Finding, Need, Stage, StageResult
from fedlaf.method.update_history import UpdateHistory
from fedlaf.strategies.base.history import mean_update, moved
from fedlaf.strategies.base.phase import ServerState
from fedlaf.strategies.retrain import Retrain


class Restart(NamedTuple):
    """A model of training, after `round` rounds, and the bound on what it owes to the withdrawn clients."""

    round: int
    weights: Weights
    sensitivity: float


@dataclass(frozen=True)
class Sifu(Retrain):
    """Goes back to the last round whose sensitivity is within the budget, adds Gaussian noise of deviation
    `noise`, and trains the rounds that are left without the withdrawn clients.

    Sensitivity grows by `growth` a round, 1 where local training is no expansion (convex losses, small
    rates); for deep models the bound, and with it (`epsilon`, `delta`), holds as far as that does. With
    `noise` 0 it is retraining. A later request starts over, as updates of earlier leavers are gone.
    """

    epsilon: float = 10.0
    delta: float = 0.01
    noise: float = 0.05
    growth: float = 1.0

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WHOLE, Need.UPDATES, Need.START, Need.LABELS})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("epsilon", self.epsilon, above=0)
        require_number("delta", self.delta, above=0, at_most=1)
        require_number("noise", self.noise, at_least=0)
        require_number("growth", self.growth, at_least=1)

    @property
    def budget(self) -> float:
        """The sensitivity that the noise hides: sigma epsilon / sqrt(2 ln(1.25 / delta)), theorem 2 there."""
        return self.noise * self.epsilon / sqrt(2 * log(1.25 / self.delta))

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """The model to go on from."""
        return state

    def run(self, grid: Grid, weights: Weights, stage: Stage) -> StageResult:
        """As retraining is run, from the restart on; what is certified is a finding."""
        start, registry = stage.inputs.require("start"), stage.registry
        point = Restart(0, start, 0.0)
        if not any(registry.removed.of(client) for client in registry.sizes):
            history = stage.inputs.require("history")
            point = self.restart(start, history, registry.request.clients, registry.retain_clients)
        noisy = self.with_noise(point.weights, stage)
        result = super().run(grid, noisy, replace(stage, skip=point.round))
        return replace(result, findings=(*result.findings, self._certified(point, registry)))

    def restart(
        self, start: Weights, history: UpdateHistory, leaving: Sequence[ClientId], others: Sequence[ClientId]
    ) -> Restart:
        """The last model within the budget. A round adds the distance between its model and the one that it
        would have made without those who are leaving, from the same weights.
        """
        found = point = Restart(0, start, 0.0)
        for round_ in history.rounds:
            whole, rest = (mean_update(history, round_, clients) for clients in ([*leaving, *others], others))
            moves = whole or {}
            grown = self.growth * point.sensitivity + _distance(moves, rest or {})
            point = Restart(round_, moved(point.weights, moves), grown)
            if grown <= self.budget:
                found = point
        return found

    def with_noise(self, weights: Weights, stage: Stage) -> Weights:
        """Trainable arrays with Gaussian noise, drawn for this request."""
        stream = numpy_stream(stage.seed, stage.name, "noise")
        drawn = {
            name: stream.normal(0.0, self.noise, array.shape)
            for name, array in weights.items()
            if is_trainable(name, array)
        }
        return moved(weights, drawn) if self.noise > 0 else weights

    def _certified(self, point: Restart, registry: ClientRegistry) -> Finding:
        message = (
            f"({self.epsilon:g}, {self.delta:g})-unlearning where local training is no expansion: back to "
            f"round {point.round} of {registry.trained}, sensitivity {point.sensitivity:.3g} of at most "
            f"{self.budget:.3g}, noise of deviation {self.noise:g}"
        )
        return Finding("certified", "train", point.round, message)


def _distance(whole: Weights, rest: Weights) -> float:
    """The length of the difference of two updates; an absent one is 0."""
    squares = (
        float(np.square(array - rest.get(name, 0.0)).sum())
        for name, array in whole.items()
        if is_trainable(name, array)
    )
    return sqrt(sum(squares))
