"""A grid between a server and any other grid, in which clients misbehave as they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Error, Message
from flwr.serverapp import Grid

from fedlaf.protocol.grids import Relay
from fedlaf.protocol.messages import pack, unpack

Change = Callable[[dict[str, Any]], dict[str, Any]]
"""What is done to the arrays of each part of a reply."""


def _each(change: Callable[[Any], Any]) -> Change:
    return lambda arrays: {name: np.asarray(change(np.array(array))) for name, array in arrays.items()}


CHANGES: dict[str, Change] = {
    "NaN": _each(lambda a: np.full_like(a, np.nan) if a.dtype.kind == "f" else a),
    "wrong keys": lambda arrays: {f"other.{name}": array for name, array in arrays.items()},
    "wrong shapes": _each(lambda a: np.zeros((*a.shape, 2), a.dtype)),
    "absurd norm": _each(lambda a: np.full_like(a, 1e30) if a.dtype.kind == "f" else a),
}
"""Faults that lie in a reply's arrays."""

SILENT = ("hangs", "no answer")
KINDS = (*CHANGES, "raises", *SILENT, "twice", "late")


@dataclass(frozen=True)
class Fault:
    """What client `node` does wrong in its exchanges number `first` to `last`, counted from 1."""

    kind: str
    node: int
    first: int = 1
    last: int = 1


class FaultyGrid(Relay):
    """Passes messages on, and replies as the faults have it; `injected` counts the faults, `turns`
    the exchanges by node."""

    def __init__(self, inner: Grid, *faults: Fault) -> None:
        super().__init__(inner)
        self.faults, self.injected = faults, 0
        self.turns: dict[int, int] = {}
        self._late: list[Message] = []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and give their replies, those first that are late from before."""
        sent = list(messages)
        for message in sent:
            node = message.metadata.dst_node_id
            self.turns[node] = self.turns.get(node, 0) + 1
        late, self._late = self._late, []
        replies = self.inner.send_and_receive(sent, timeout=timeout)
        return [*late, *(each for reply in replies for each in self._replies(reply))]

    def _replies(self, reply: Message) -> Iterator[Message]:
        node = reply.metadata.src_node_id
        turn = self.turns.get(node, 0)
        kinds = [f.kind for f in self.faults if f.node == node and f.first <= turn <= f.last]
        if not kinds:
            yield reply
            return
        self.injected += 1
        (kind,) = kinds
        if kind == "raises":
            yield _failed(reply)
        elif kind == "late":
            self._late.append(reply)
        elif kind not in SILENT:
            yield reply if kind == "twice" else _changed(reply, CHANGES[kind])
            yield from [reply] * (kind == "twice")


def _failed(reply: Message) -> Message:
    failed = Message.__new__(Message)
    failed.__dict__.update(reply.__dict__)
    failed.__dict__.update(_content=None, _error=Error(1, "ValueError: no such row (at steps.py:7)"))
    return failed


def _changed(reply: Message, change: Change) -> Message:
    for part in list(reply.content.array_records):
        reply.content[part] = pack(change(unpack(reply.content.array_records[part])))
    return reply
