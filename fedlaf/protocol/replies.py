"""What is done with replies wherever they are: refuse bad ones, fold models into their mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message

from fedlaf.core.cost import NAMES as COSTS
from fedlaf.core.types import ClientId, Numbers, Weights
from fedlaf.protocol.exact_mean import Mean, TooLarge, largest_of
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


ROW_COUNTS = (ROWS, "retain", "forget")
"""Numbers that count rows of the client: none may be more than it holds."""

ABSURD = 2.0**11
"""How many times the largest number of what was sent a reply may hold; and, for arrays that were not sent,
the power of 1e5 that is beyond any sum over rows."""


def fault_of(reply: Reply, sent: Mapping[str, Weights], *, size: int | None = None) -> str | None:
    """Why a reply must be refused; None for a good one.

    What comes back under the name of what was `sent` must have its names, shapes and kinds of numbers. All
    numbers must be finite and not absurdly large; of a client that holds `size` rows no more can count.
    """
    for part, weights in reply.arrays.items():
        model = sent.get(part)
        if model is not None and list(model) != list(weights):
            return f"an update of {part} with other names than the model's"
        for name, array in weights.items():
            fault = _array_fault(array, None if model is None else model[name])
            if fault is not None:
                return f"{part}.{name} {fault}"
    for name, value in {**reply.numbers, **reply.cost.numbers()}.items():
        if not isfinite(value):
            return f"{name} {NOT_FINITE}"
        if name in COSTS and value < 0:
            return f"{name} of {value:g}, expected at least 0"
    for name in ROW_COUNTS:
        rows = reply.numbers.get(name, 0.0)
        if rows != int(rows) or rows < 0 or (size is not None and rows > size):
            most = "" if size is None else f" to the {size} rows that the client holds"
            return f"{name} of {rows:g}, expected a whole number from 0{most}"
    return None


def _array_fault(array: npt.NDArray[Any], like: npt.NDArray[Any] | None) -> str | None:
    if like is not None and like.shape != array.shape:
        return f"of shape {array.shape}, expected {like.shape}"
    if array.dtype.kind not in "biuf" or (like is not None and like.dtype != array.dtype):
        return f"of dtype {array.dtype}, expected {'numbers' if like is None else like.dtype}"
    if array.dtype.kind != "f" or array.size == 0:
        return None
    largest = largest_of(array)
    if not isfinite(largest):
        return NOT_FINITE
    if (
        largest < ABSURD
    ):  # below either limit: the model that was sent need not be looked through for each reply
        return None
    most = 1e15 if like is None else ABSURD * max(1.0, largest_of(like))
    return f"holds numbers of {largest:.1e}, an absurd size" if largest >= most else None


def unlike_others(replies: Sequence[Reply]) -> dict[ClientId, str]:
    """Clients whose arrays differ in names or shapes from most others' of the round, and how."""
    forms = {
        reply.client: {part: tuple((n, a.shape) for n, a in w.items()) for part, w in reply.arrays.items()}
        for reply in replies
    }
    faults: dict[ClientId, str] = {}
    for part in sorted({part for form in forms.values() for part in form}):
        common = Counter(form[part] for form in forms.values() if part in form).most_common(1)[0][0]
        differing = (client for client, form in forms.items() if form.get(part, common) != common)
        faults |= dict.fromkeys(differing, f"{part} with other names or shapes than most clients'")
    return faults


class StreamingMean:
    """The mean of one part over replies, exact in any order; replies lose the part on the way.

    Sums over several clients are accepted only with `sums`: from a grid that says that it sends them.
    """

    def __init__(self, request: MeanRequest, sent: Weights, *, sums: bool = False) -> None:
        self.request, self.sent, self.sums = request, sent, sums
        self.mean = Mean(sent, request.most)

    def take(self, reply: Reply) -> str | None:
        """Add a reply, a client's own or one that carries the sum of others; gives why it cannot be added."""
        part = self.request.part
        if ROWS not in reply.numbers:
            return f"no {ROWS} in the reply"
        if self.sums and Part.SUM in reply.arrays:
            return self._join(reply.arrays[Part.SUM], reply.numbers.get(SUMMED, 0.0))
        if part not in reply.arrays:
            summed = self.sums and reply.numbers.get(SUMMED) == 0
            return None if summed else f"no {part} in the reply"
        try:
            self.mean.add(reply.arrays[part], int(reply.numbers[ROWS]))
        except TooLarge as error:
            return f"{part}.{error}"
        return None

    def _join(self, sums: Weights, weight: float) -> str | None:
        same = {name: array.shape for name, array in sums.items()}
        if same != {name: array.shape for name, array in self.sent.items()}:
            return "a sum with other names or shapes than the model's"
        if not 0 < weight <= self.request.most - self.mean.weight:
            return f"a sum over {weight:g} rows, of {self.request.most} that were asked for"
        self.mean.join(sums, int(weight))
        return None


class PartialSum:
    """A worker's part of a mean: its replies lose their arrays, and one of them carries their sum."""

    def __init__(self, request: MeanRequest, sent: ArrayRecord) -> None:
        self.sent = unpack(sent)
        self.fold = StreamingMean(request, self.sent)

    def add(self, message: Message) -> str | None:
        """Take the arrays out of a reply and into the sum; or say why the reply must be refused."""
        part = self.fold.request.part
        reply = decode_reply(message, client=-1)
        fault = fault_of(reply, {part: self.sent}) or self.fold.take(reply)
        if fault is None:
            strip_arrays(message, part)
        return fault

    def attach(self, message: Message) -> None:
        """Let a reply without arrays carry the sum of all."""
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
