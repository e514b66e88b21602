"""FedEraser (Liu et al., IWQoS 2021): training is replayed with stored updates whose direction the remaining
clients calibrate in short local training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from fedlaf.core.errors import require_count, require_number
from fedlaf.core.types import ClientId, Weights
from fedlaf.core.weights import is_trainable
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.method.update_history import HistorySpec
from fedlaf.objectives.classification import Fit
from fedlaf.protocol.messages import Part, Reply
from fedlaf.protocol.replies import ROWS
from fedlaf.strategies.base.aggregate import difference, weighted_mean
from fedlaf.strategies.base.history import mean_update, moved
from fedlaf.strategies.base.phase import Phase, ServerState, Who
from fedlaf.strategies.base.strategy import ForgetStrategy


@dataclass(frozen=True)
class FedEraser(ForgetStrategy):
    """Updates of every `every`-th round are kept and replayed from the start weights: the first as it
    was, the others calibrated in `ratio` of training's local epochs.
    """

    every: int = 2
    ratio: float = 0.4
    fit: Fit = field(default_factory=Fit)

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WHOLE, Need.UPDATES, Need.START, Need.LABELS})

    def __post_init__(self) -> None:
        require_count("every", self.every)
        require_number("ratio", self.ratio, above=0, at_most=1)

    @property
    def history_spec(self) -> HistorySpec:
        """Updates of every so many rounds."""
        return replace(super().history_spec, every=self.every)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """One round for each kept round but the first. Every answer counts."""
        kept = len(range(0, registry.trained, self.every))
        fit = replace(self.fit, share=self.ratio * self.fit.share)
        return [Phase("calibrate", "fit", max(kept - 1, 0), Who.RETAIN, fit)]

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """The start weights after the first kept round, as the others' updates have it."""
        history, start = state.inputs.require("history"), state.inputs.require("start")
        mean = mean_update(history, history.rounds[0], registry.retain_clients)
        return replace(state, weights=start if mean is None else moved(start, mean))

    def select_clients(self, phase: Phase, state: ServerState, clients: list[ClientId]) -> list[ClientId]:
        """Those who took part in the round that is replayed."""
        history = state.inputs.require("history")
        took_part = history.clients(history.rounds[state.round])
        return [client for client in clients if client in took_part] or clients

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """The calibrated model."""
        return {Part.MODEL: state.weights}

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The model moved by the mean of the calibrated updates."""
        history = state.inputs.require("history")
        round_ = history.rounds[state.round]
        took_part = history.clients(round_)
        used = [reply for reply in replies if reply.client in took_part]
        if not used:
            return state
        steps = [
            calibrated(history.update(round_, r.client), difference(r.arrays[Part.MODEL], state.weights))
            for r in used
        ]
        mean = weighted_mean(steps, [reply.numbers[ROWS] for reply in used])
        return replace(state, weights=moved(state.weights, mean))


def calibrated(stored: Weights, update: Weights) -> Weights:
    """||U|| u / ||u|| for each array: as long as the stored update U, in the direction of the new one u."""
    found = {}
    for name, new in update.items():
        if not is_trainable(name, new):  # running statistics go where the new ones are
            found[name] = new
            continue
        length = float(np.linalg.norm(new))
        scale = float(np.linalg.norm(stored[name].astype(np.float64))) / length if length > 0 else 0.0
        found[name] = scale * new
    return found
