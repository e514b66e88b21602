"""Small federations and recording grids."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from flwr.app import Message
from flwr.serverapp import Grid

from fedlaf.client import ClientSpec, make_client_app
from fedlaf.core.types import Weights
from fedlaf.data import Backdoor, Dataset, Digits, Iid, LabelledRows
from fedlaf.data.federation import FederationSpec, build
from fedlaf.method.contract import ClientRegistry
from fedlaf.models import SmallCnn
from fedlaf.protocol.enrolment import enrol
from fedlaf.protocol.grids import Relay
from fedlaf.simulation import InlineGrid


def small_spec(clients: int = 4, *, rows: int = 400, seed: int = 0, **more: Any) -> ClientSpec:
    """Digits for `clients` clients, client 0 backdoored, the small CNN."""
    federation = FederationSpec(
        Digits(train_rows=rows, test_rows=100),
        Iid(),
        clients,
        seed,
        backdoor=Backdoor(clients=(0,), share=0.5, patch=2),
    )
    return ClientSpec(replace(federation, **more), SmallCnn(), "cpu")


def initial_weights(spec: ClientSpec, seed: int = 0) -> Weights:
    """Fresh weights of the specification's model."""
    dataset = build(spec.federation).dataset
    model = spec.model.build(dataset.shape, dataset.num_classes, seed)
    return {k: v.numpy().copy() for k, v in model.state_dict().items()}


def enrolled(spec: ClientSpec, grid: Grid | None = None) -> tuple[Grid, ClientRegistry]:
    """An inline grid (or the one given) over the specification's clients, and the registry of its clients."""
    count = spec.federation.clients
    grid = grid or InlineGrid(make_client_app(spec), count)
    return grid, enrol(grid, expected=count, timeout=60)


@dataclass(frozen=True)
class GarbageLabels:
    """The same digits with every training label replaced by noise."""

    seed: int

    def prepare(self) -> None: ...

    def load(self) -> Dataset:
        whole = Digits(train_rows=400, test_rows=100).load()
        noise = torch.randint(0, 10, (400,), generator=torch.Generator().manual_seed(self.seed))
        return replace(whole, train=LabelledRows(whole.train.x, noise))


class RecordingGrid(Relay):
    """Passes everything on and keeps what went down and what came up."""

    def __init__(self, inner: Grid, tamper: Callable[[Message], Message | None] | None = None) -> None:
        super().__init__(inner)
        self.sent: list[Message] = []
        self.replies: list[Message] = []
        self.tamper = tamper

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        sent = list(messages)
        self.sent += sent
        replies = list(self.inner.send_and_receive(sent, timeout=timeout))
        if self.tamper is not None:
            replies = [kept for reply in replies if (kept := self.tamper(reply)) is not None]
        self.replies += replies
        return replies


def same_bits(left: Weights, right: Weights) -> bool:
    """Names, order, dtypes and every bit are equal."""
    return list(left) == list(right) and all(
        left[k].dtype == right[k].dtype and np.array_equal(left[k], right[k]) for k in left
    )


def furthest(left: Weights, right: Weights) -> float:
    """The largest absolute difference of any weight."""
    return max(float(np.abs(left[k].astype(float) - right[k].astype(float)).max()) for k in left)
