"""Instructions and replies arrive as they were: order, dtypes, bits, and empty lists of rows."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlaf.core.cost import Cost
from fedlaf.core.request import RowSplit
from fedlaf.core.types import Weights
from fedlaf.objectives.classification import Fit
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.objectives.laf_targets import Alignment, TargetRule
from fedlaf.protocol.arrays import HeldArray
from fedlaf.protocol.messages import (
    Instruction,
    Part,
    Reply,
    decode_instruction,
    decode_reply,
    encode_instruction,
    encode_reply,
    pack,
    settings_from_config,
    settings_to_config,
    size_in_bytes,
    unpack,
)
from fedlaf.simulation import flower_compat

FEW = settings(max_examples=30, deadline=None)
positions = st.lists(st.integers(0, 10**6), unique=True, max_size=5).map(lambda rows: tuple(sorted(rows)))
splits = st.builds(RowSplit, positions, positions, st.booleans())

WEIGHTS: Weights = {
    "z.weight": np.arange(12, dtype=np.float32).reshape(3, 4).T,  # not contiguous
    "a.bias": np.array([np.pi, -0.0, 1e-45, np.inf]),
    "count": np.array([7], dtype=np.int64),
    "none": np.empty((0, 3), dtype=np.float32),
}


@pytest.fixture(autouse=True, scope="module")
def identity() -> None:
    """No Message can be made before Flower knows for whom."""
    flower_compat.identify(1)


def sent(content: RecordDict) -> Message:
    """A message as a client gets it: through another process, with an id."""
    message = Message(content, 1001, "train.fit")
    flower_compat.set_message_id(message, "m1")
    return pickle.loads(pickle.dumps(message))


def assert_same(left: Weights, right: Weights) -> None:
    assert list(left) == list(right)
    for name, array in left.items():
        assert array.dtype == right[name].dtype
        assert array.shape == right[name].shape
        assert array.tobytes() == right[name].tobytes()


def test_weights_keep_order_dtype_shape_and_bits() -> None:
    assert_same(unpack(pack(WEIGHTS)), WEIGHTS)


def test_a_scalar_stays_a_scalar() -> None:
    # BatchNorm's num_batches_tracked, in every ResNet's state dict.
    scalar = {"num_batches_tracked": np.array(7, dtype=np.int64)}
    assert_same(unpack(pack(scalar)), scalar)


def test_unpacked_arrays_are_what_was_packed_and_read_only() -> None:
    found = unpack(pack(WEIGHTS))
    for name, array in found.items():
        assert np.shares_memory(array, WEIGHTS[name]) == WEIGHTS[name].flags.c_contiguous or not array.size
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_between_processes_arrays_travel_beside_the_pickle_not_in_it() -> None:
    buffers: list[pickle.PickleBuffer] = []
    record = pack({"w": np.arange(100_000, dtype=np.float32)})
    pickled = pickle.dumps(record, protocol=5, buffer_callback=buffers.append)
    assert len(pickled) < 2000
    assert sum(len(buffer.raw()) for buffer in buffers) == 400_000
    again = pickle.loads(pickled, buffers=buffers)
    assert_same(unpack(again), unpack(record))
    assert isinstance(again["w"], HeldArray)


def test_a_transport_of_bytes_finds_what_flower_would_have_made() -> None:
    for name, array in WEIGHTS.items():
        plain, held = Array(np.asarray(array, order="C")), pack(WEIGHTS)[name]
        assert (held.dtype, held.shape, held.stype, held.data) == (
            plain.dtype, plain.shape, plain.stype, plain.data,
        )  # fmt: skip
        assert held.object_id == plain.object_id


@FEW
@given(splits, st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_an_instruction_round_trips(rows: RowSplit, seed: int, number: int) -> None:
    instruction = Instruction(
        {Part.MODEL: pack(WEIGHTS), Part.VAE: pack({})},
        {"lr": 1e-3, "steps": 3, "flag": False, "name": "x"},
        seed,
        "request-1",
        number,
        rows,
    )
    decoded = decode_instruction(sent(encode_instruction(instruction)))
    assert (decoded.seed, decoded.stage, decoded.round, decoded.rows) == (seed, "request-1", number, rows)
    assert decoded.settings == instruction.settings
    assert [type(v) for v in decoded.settings.values()] == [float, int, bool, str]
    assert set(decoded.arrays) == {Part.MODEL, Part.VAE}
    assert_same(decoded.weights(Part.MODEL), WEIGHTS)
    assert decoded.weights(Part.VAE) == {}
    assert type(decoded.rows.forget) is type(decoded.rows.removed) is tuple
    assert type(decoded.rows.withdraws) is bool


@pytest.mark.parametrize("rows", [RowSplit(), RowSplit((1, 2)), RowSplit((), (3,)), RowSplit((), (), True)])
def test_empty_lists_of_rows_arrive_empty(rows: RowSplit) -> None:
    instruction = Instruction({}, {}, 0, "train", 1, rows)
    decoded = decode_instruction(sent(encode_instruction(instruction)))
    assert decoded == instruction


def test_a_part_that_was_not_sent_is_a_key_error() -> None:
    decoded = decode_instruction(sent(encode_instruction(Instruction({}, {}, 0, "train", 1))))
    with pytest.raises(KeyError):
        decoded.weights(Part.EXTRACTOR)


def test_a_reply_round_trips_and_is_signed_by_the_server() -> None:
    asked = sent(encode_instruction(Instruction({}, {}, 0, "train", 1)))
    spent = Cost(gradient_passes=24, labels_read=12)
    reply = Reply({Part.EXTRACTOR: WEIGHTS, Part.FORGET_VAE: {}}, {"loss": 0.1, "rows": 12}, spent)
    message = pickle.loads(pickle.dumps(encode_reply(reply, asked)))
    assert not message.has_error()
    assert message.metadata.reply_to_message_id == "m1"
    decoded = decode_reply(message, 5)
    assert decoded.client == 5
    assert decoded.numbers == {"loss": 0.1, "rows": 12.0}
    assert decoded.cost == spent
    assert decoded.count_numbers == len(message.content["numbers"]) == 4
    assert all(type(v) is float for v in decoded.numbers.values())
    assert set(decoded.arrays) == {Part.EXTRACTOR, Part.FORGET_VAE}
    assert_same(decoded.arrays[Part.EXTRACTOR], WEIGHTS)
    assert decoded.arrays[Part.FORGET_VAE] == {}


def test_an_empty_reply_round_trips() -> None:
    asked = sent(encode_instruction(Instruction({}, {}, 0, "train", 1)))
    assert decode_reply(encode_reply(Reply(), asked), 0) == Reply(client=0)


def test_malformed_replies_are_told_apart() -> None:
    asked = sent(encode_instruction(Instruction({}, {}, 0, "train", 1)))
    with pytest.raises(KeyError):
        decode_reply(Message(RecordDict({}), reply_to=asked), 0)
    listed = RecordDict({"numbers": MetricRecord({"loss": [0.5, 1.0]})})
    with pytest.raises(TypeError):
        decode_reply(Message(listed, reply_to=asked), 0)


def test_a_method_may_name_parts_of_its_own() -> None:
    asked = sent(encode_instruction(Instruction({"prototypes": pack(WEIGHTS)}, {}, 0, "train", 1)))
    assert_same(decode_instruction(asked).weights("prototypes"), WEIGHTS)
    answered = encode_reply(Reply({"class_means": WEIGHTS}), asked)
    assert_same(decode_reply(answered, 0).arrays["class_means"], WEIGHTS)


@pytest.mark.parametrize(
    "bound",
    [
        Fit(),
        Fit("sgd", 0.1, 1e-4, 0.9, 3, 7, "crop_flip"),
        Represent(density="gaussian"),
        Represent(3, "sigmoid", False, "sum", "retain", 2, 4, 0.5, 0.0, 9, True),
        Forget(lr_unlearning=0.0, lr_alignment=0.25, temperature=3.0, steps=2, sides="retain", sampled=True),
        TargetRule(
            outlier_quantile=0.1,
            project_outliers=False,
            threshold=-1.5,
            latent=3,
            decoder="sigmoid",
            density="gaussian",
        ),
        Alignment(0.5, "cosine", 7, 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_round_trip_through_a_message(bound: Any) -> None:
    flat = {**settings_to_config(bound), "of_another_phase": 1}
    instruction = Instruction({}, flat, 0, "train", 1)
    decoded = decode_instruction(sent(encode_instruction(instruction)))
    assert settings_from_config(type(bound), decoded.settings) == bound


@dataclass(frozen=True)
class Bound:
    """Settings that may be None, by default or in spite of it."""

    clip: float | None = None
    most_rows: int | None = 300
    name: str | None = "x"


@pytest.mark.parametrize(
    "bound", [Bound(), Bound(0.5, 2), Bound(most_rows=None, name=None), Represent(most_rows=None)]
)
def test_settings_that_are_none_come_back_as_none_whatever_the_default(bound: Any) -> None:
    instruction = Instruction({}, settings_to_config(bound), 0, "train", 1)
    decoded = decode_instruction(sent(encode_instruction(instruction)))
    assert settings_from_config(type(bound), decoded.settings) == bound


def test_the_size_of_a_known_content() -> None:
    weights = {"w": np.zeros((10, 3), np.float32), "b": np.zeros(5, np.float64)}
    serialised = sum(array.nbytes for array in weights.values())
    assert serialised == 10 * 3 * 4 + 5 * 8
    content = RecordDict(
        {
            "model": pack(weights),
            "numbers": MetricRecord({"loss": 0.5, "rows": 3.0, "seconds": 1.5}),
            "order": ConfigRecord(
                {"stage": "train", "round": 1, "rows": [1, 2, 3], "none": [], "raw": b"ab"}
            ),
        }
    )
    assert size_in_bytes(content) == serialised + 3 * 8 + len("train") + 8 + 3 * 8 + 0 + 2


def test_the_size_grows_by_eight_bytes_a_row_that_is_named() -> None:
    def size(rows: RowSplit) -> int:
        return size_in_bytes(encode_instruction(Instruction({}, {}, 0, "train", 1, rows)))

    assert size(RowSplit((1, 2, 3), (4,))) - size(RowSplit()) == 4 * 8
    assert size_in_bytes(RecordDict({})) == 0
