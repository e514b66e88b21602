"""Hand-made records of training, for methods that replay it: arrays of three numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry, MethodInputs
from fedlaf.method.history_writer import HistoryWriter
from fedlaf.method.update_history import HistoryHandle, HistorySpec, UpdateHistory
from fedlaf.strategies.base.phase import ServerState

Numbers = Sequence[float]
ZERO: Numbers = (0.0, 0.0, 0.0)
EVERYTHING = HistorySpec(every=1, last=True, magnitudes=True)


def three(*numbers: float) -> Weights:
    """A model of three numbers."""
    return {"a.weight": np.array(numbers, np.float32)}


def numbers(weights: Weights) -> list[float]:
    """They, as a list."""
    return [round(float(x), 6) for x in weights["a.weight"]]


def recorded(
    folder: Path,
    rounds: Sequence[Mapping[int, Numbers]],
    rows: Mapping[int, int],
    keep: HistorySpec = EVERYTHING,
) -> UpdateHistory:
    """Records of rounds that begin at zero, each a client -> what it trained; seen as they were kept."""
    history_writer = HistoryWriter(HistoryHandle(keep, folder))
    for number, trained in enumerate(rounds, 1):
        for client, model in trained.items():
            history_writer.take(number, client, three(*ZERO), three(*model), rows=rows[client])
        history_writer.end(number)
    return UpdateHistory([folder], keep)


def leaving(rows: Mapping[int, int], *withdrawing: int, trained: int = 1) -> ClientRegistry:
    """Clients with so many rows, of whom some leave."""
    return ClientRegistry(
        dict(rows), dict(rows), ForgetRequest.of_clients(withdrawing, rows), trained=trained
    )


def state_of(
    weights: Weights, records: UpdateHistory | None = None, start: Weights | None = None
) -> ServerState:
    """What a method begins with."""
    aux = {"seed": 0, "stage": "request-1"}
    return ServerState(weights, aux=aux, inputs=MethodInputs(start, records))
