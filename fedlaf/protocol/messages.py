"""What crosses between server and clients: the only file that knows message names and record keys.

An `Instruction` goes down, a `Reply` comes back; both are Flower messages on any transport.
Everything a client needs travels in its message, so that a client may run anywhere, any time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedlaf.core.cost import NAMES as COSTS
from fedlaf.core.cost import Cost
from fedlaf.core.request import RowSplit
from fedlaf.core.types import ClientId, Numbers, Weights
from fedlaf.protocol.arrays import HeldArray

PARTITION = "partition-id"
"""Key of a node's configuration that holds its partition id (Flower's own name for it)."""


class Part:
    """Names of the array records that the shipped methods use; a method may have names of its own."""

    MODEL = "model"
    EXTRACTOR = "extractor"
    HEAD = "head"
    PREDICTED_COUNTS = "predicted_counts"
    SHIFT = "shift"
    VAE = "h"
    WHITENING = "whitening"
    FORGET_VAE = "h_f"
    RETAIN_GRADIENT = "retain_gradient"
    FORGET_GRADIENT = "forget_gradient"
    RETAIN_IMPORTANCE = "retain_importance"
    FORGET_IMPORTANCE = "forget_importance"
    MASK = "mask"
    UPDATE = "update"
    SUM = "sum"
    STATISTICS = "statistics"


@dataclass(frozen=True)
class MeanRequest:
    """What the server needs of the replies of a round: the mean of `part`, weighted by rows.

    All clients' rows are `most` together. A grid may send sums instead of single replies (see
    `fedlaf.protocol.replies`), or take no notice.
    """

    part: str
    most: int


@dataclass(frozen=True)
class Instruction:
    """What a client is told: arrays, settings of the phase, its rows, and the names of its random streams.

    Streams are named by `stage`, `phase` and `round`, so that no two phases draw alike. `run` tells stages
    with the same streams apart (training and retraining), so that rows are counted once.
    """

    arrays: Mapping[str, ArrayRecord]
    settings: Mapping[str, Any]
    seed: int
    stage: str
    round: int
    rows: RowSplit = field(default_factory=RowSplit)
    mean: MeanRequest | None = None
    run: str = ""
    phase: str = ""

    def weights(self, part: str) -> Weights:
        """The arrays of one part. Raises KeyError when it was not sent."""
        return unpack(self.arrays[part])


@dataclass(frozen=True)
class Reply:
    """What a client answers: arrays, numbers, what it cost, and (filled in by the server) who it is."""

    arrays: Mapping[str, Weights] = field(default_factory=dict)
    numbers: Numbers = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    client: ClientId = -1

    @property
    def count_numbers(self) -> int:
        """How many numbers it took on the wire."""
        return len(self.numbers) + sum(bool(value) for value in self.cost.numbers().values())


S = TypeVar("S")


def pack(weights: Weights) -> ArrayRecord:
    """Weights as a record that refers to the arrays: change them no more. Messages may share a record."""
    record = ArrayRecord()
    for name, array in weights.items():  # one by one: Flower's constructor would copy them to bytes
        record[name] = HeldArray(np.asarray(array, order="C"))
    return record


def unpack(record: ArrayRecord) -> Weights:
    """A record as weights, in its order; the arrays may be read-only."""
    return {k: v.numpy() for k, v in record.items()}


def settings_to_config(settings: object) -> dict[str, Any]:
    """A frozen dataclass of scalars as flat values for the wire; None, which no record holds, is `[]`."""
    values = dataclasses.asdict(settings)  # type: ignore[call-overload]
    return {k: [] if v is None else v for k, v in values.items()}


def settings_from_config(kind: type[S], config: Mapping[str, Any]) -> S:
    """The dataclass that `settings_to_config` flattened."""
    names = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{k: None if v == [] else v for k, v in config.items() if k in names})


def encode_instruction(instruction: Instruction) -> RecordDict:
    """An instruction as the content of a message."""
    order: dict[str, Any] = {"seed": instruction.seed, "stage": instruction.stage, "round": instruction.round}
    order["withdraws"] = instruction.rows.withdraws
    order["forget"], order["removed"] = list(instruction.rows.forget), list(instruction.rows.removed)
    if instruction.run:
        order["run"] = instruction.run
    order["phase"] = instruction.phase
    if instruction.mean is not None:
        order["mean"], order["most"] = str(instruction.mean.part), instruction.mean.most
    records: dict[str, Any] = dict(instruction.arrays)
    records["order"] = ConfigRecord(order)
    shared = isinstance(instruction.settings, ConfigRecord)
    records["settings"] = instruction.settings if shared else settings_record(instruction.settings)
    return RecordDict(records)


def settings_record(settings: Mapping[str, Any]) -> ConfigRecord:
    """Settings as messages carry them: made once, it may be shared by all messages of a round."""
    return ConfigRecord(dict(settings))


def decode_instruction(message: Message) -> Instruction:
    """The instruction that a message carries."""
    content = message.content
    order: Any = content.config_records["order"]
    return Instruction(
        dict(content.array_records),
        dict(content.config_records["settings"]),
        int(order["seed"]),
        str(order["stage"]),
        int(order["round"]),
        RowSplit(tuple(order["forget"]), tuple(order["removed"]), bool(order["withdraws"])),
        requested_mean(message),
        str(order.get("run", "")),
        str(order["phase"]),
    )


def tag_run(message: Message, run: str) -> None:
    """Say in an instruction which run of a stage it belongs to."""
    message.content.config_records["order"]["run"] = run


def requested_mean(message: Message) -> MeanRequest | None:
    """Whether an instruction's replies may come as sums."""
    order: Any = message.content.config_records["order"]
    return MeanRequest(str(order["mean"]), int(order["most"])) if "mean" in order else None


def encode_reply(reply: Reply, to: Message) -> Message:
    """A reply as a message that answers `to`."""
    records: dict[str, Any] = {part: pack(weights) for part, weights in reply.arrays.items()}
    spent = {name: value for name, value in reply.cost.numbers().items() if value}
    records["numbers"] = MetricRecord({k: float(v) for k, v in {**reply.numbers, **spent}.items()})
    return Message(RecordDict(records), reply_to=to)


SUMMED = "summed"
"""Number of a light reply: how many rows weigh in the sum that it brings, 0 where it brings none."""


def strip_arrays(reply: Message, part: str) -> None:
    """Take a part out of a reply: it is in a sum that another brings."""
    reply.content.pop(part)
    reply.content.metric_records["numbers"][SUMMED] = 0.0


def attach_sum(reply: Message, sums: Weights, weight: int) -> None:
    """Put the sum of other replies and its weight into a light reply."""
    reply.content[str(Part.SUM)] = pack(sums)
    reply.content.metric_records["numbers"][SUMMED] = float(weight)


def decode_reply(message: Message, client: ClientId) -> Reply:
    """The reply that a message carries, from `client`. Raises KeyError or TypeError for a malformed one."""
    content = message.content
    numbers = {k: float(v) for k, v in content.metric_records["numbers"].items()}  # type: ignore[arg-type]
    arrays = {name: unpack(record) for name, record in content.array_records.items()}
    cost = Cost.of(numbers)
    return Reply(arrays, {k: v for k, v in numbers.items() if k not in COSTS}, cost, client)


def size_in_bytes(content: RecordDict) -> int:
    """Bytes of arrays, numbers and settings in a message (8 for a number), without framing."""
    total = 0
    for arrays in content.array_records.values():
        total += sum(array.numpy().nbytes for array in arrays.values())
    for numbers in content.metric_records.values():
        total += 8 * len(numbers)
    for config in content.config_records.values():
        for value in config.values():
            many = value if isinstance(value, list) else [value]
            total += sum(len(v) if isinstance(v, (str, bytes)) else 8 for v in many)
    return total
