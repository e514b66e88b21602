"""FATS (Tao et al., VLDB 2024): draws of training are kept, and a request redoes what it was drawn for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from flwr.serverapp import Grid

from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry, Finding, Need, Stage, StageResult
from fedlaf.strategies.base.phase import ServerState
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.retrain import Retrain


@dataclass(frozen=True)
class Fats(Retrain):
    """Goes back to the model before the first round that drew a forgetting client, and trains from there on
    without the forgotten rows, with cohorts drawn anew. Nothing is done where no round drew one.

    Exact: the result has the distribution of a retrained model, as the rounds before were drawn from clients
    that remain. It is cheap where a round asks few clients of many (`train.cohort`), and retraining where it
    asks all. What a client used of its rows in a round is not told apart.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.MODELS, Need.LABELS})

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """The model to go on from."""
        return state

    def run(self, grid: Grid, weights: Weights, stage: Stage) -> StageResult:
        """Training's rounds from the first use on, with random streams of this request: those of training
        have decided which round that is.
        """
        registry, history = stage.registry, stage.inputs.require("history")
        gone = [client for client in registry.sizes if registry.removed.of(client)]
        first, before = history.before_use([*registry.forget_clients, *gone], registry.trained)
        left = replace(stage, registry=registry.after_request, skip=first - 1)
        begun = (
            weights if before is None else {name: before[name] for name in weights}
        )  # in the model's order
        result = FedAvg.run(self, grid, begun, left)
        return replace(result, findings=(*result.findings, _exact(first, registry.trained)))


def _exact(first: int, trained: int) -> Finding:
    again = f"rounds {first} to {trained} of {trained} are trained again"
    nothing = f"none of {trained} rounds drew a forgetting client: there is nothing to do"
    return Finding("exact", "train", min(first, trained), again if first <= trained else nothing)
