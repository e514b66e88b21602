"""What is done with replies wherever they are: refuse bad ones, fold models into their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message

from fedlaf.core.types import Numbers, Weights
from fedlaf.protocol.exact_mean import Mean, TooLarge
from fedlaf.protocol.messages import (
    SUMMED,
    MeanRequest,
    Part,
    Reply,
    attach_sum,
    decode_reply,
    strip_arrays,
    unpack,
)

NOT_FINITE = "holds NaN or Inf"

ROWS = "rows"
"""The number by which a mean weighs a reply."""


def fault_of(reply: Reply, sent: Mapping[Any, Weights]) -> str | None:
    """Why a reply must be refused: names, shapes, NaN or Inf; None for a good one."""
    for part, weights in reply.arrays.items():
        model = sent.get(part)
        if model is not None and list(model) != list(weights):
            return f"an update of {part} with other names than the model's"
        for name, array in weights.items():
            if model is not None and model[name].shape != array.shape:
                return f"{part}.{name} of shape {array.shape}, expected {model[name].shape}"
            if not np.isfinite(array).all():
                return f"{part}.{name} {NOT_FINITE}"
    for name, value in reply.numbers.items():
        if not isfinite(value):
            return f"{name} {NOT_FINITE}"
    return None


class StreamingMean:
    """The mean of one part over replies, exact in any order; replies lose the part on the way."""

    def __init__(self, wanted: MeanRequest, sent: Weights) -> None:
        self.wanted, self.sent = wanted, sent
        self.mean = Mean(sent, wanted.most)

    def take(self, reply: Reply) -> str | None:
        """Add a reply, a client's own or one that carries the sum of others; gives why it cannot be added."""
        part = self.wanted.part
        if Part.SUM in reply.arrays:
            self.mean.join(reply.arrays[Part.SUM], int(reply.numbers[SUMMED]))
            return None
        if part not in reply.arrays:
            return None if reply.numbers.get(SUMMED) == 0 else f"no {part} in the reply"
        try:
            self.mean.add(reply.arrays[part], int(reply.numbers[ROWS]))
        except TooLarge as error:
            return f"{part}.{error}"
        return None


class PartialSum:
    """A worker's part of a fold: its replies come out light, and one of them brings their sum."""

    def __init__(self, wanted: MeanRequest, sent: ArrayRecord) -> None:
        self.sent = unpack(sent)
        self.fold = StreamingMean(wanted, self.sent)

    def lighten(self, message: Message) -> str | None:
        """Take the arrays out of a reply and into the sum; or say why the reply must be refused."""
        part = self.fold.wanted.part
        reply = decode_reply(message, client=-1)
        fault = fault_of(reply, {part: self.sent}) or self.fold.take(reply)
        if fault is None:
            strip_arrays(message, part)
        return fault

    def into(self, message: Message) -> None:
        """Let a light reply bring the sum of all."""
        attach_sum(message, self.fold.mean.sums, self.fold.mean.weight)


def without_arrays(reply: Reply) -> Reply:
    """A reply whose arrays are in a mean, or in a sum that another brought."""
    return replace(reply, arrays={}, numbers={k: v for k, v in reply.numbers.items() if k != SUMMED})


def means(replies: Sequence[Reply]) -> Numbers:
    """The mean of each number over the replies that have it; costs are summed elsewhere."""
    names = {name for reply in replies for name in reply.numbers}
    found = {}
    for name in sorted(names):
        values = [reply.numbers[name] for reply in replies if name in reply.numbers]
        found[name] = float(np.mean(values))
    return found
