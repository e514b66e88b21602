"""Whatever one client answers, a run ends in one line or goes on: nothing of a reply is used unchecked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, MetricRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.brief_methods import METHODS, SPEC, inputs
from support.federations import RecordingGrid, enrolled, initial_weights

from fedlaf.core.errors import RoundFailed
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.method.contract import Stage
from fedlaf.protocol.messages import MeanRequest, Reply, pack, unpack
from fedlaf.protocol.replies import StreamingMean, fault_of, unlike_others

Change = Callable[[Message], None]


def numbers(message: Message) -> dict[str, Any]:
    return dict(message.content.metric_records["numbers"])


def with_numbers(message: Message, changed: dict[str, Any]) -> None:
    message.content["numbers"] = MetricRecord(changed)


def set_number(name: str, value: float) -> Change:
    return lambda message: with_numbers(message, {**numbers(message), name: value})


def drop_number(place: int) -> Change:
    def change(message: Message) -> None:
        kept = numbers(message)
        if kept:
            kept.pop(sorted(kept)[place % len(kept)])
        with_numbers(message, kept)

    return change


def change_array(place: int, change: Callable[[Any], Any]) -> Change:
    def apply(message: Message) -> None:
        parts = sorted(message.content.array_records)
        if not parts:
            return
        part = parts[place % len(parts)]
        weights = unpack(message.content.array_records[part])
        name = list(weights)[place % len(weights)]
        message.content[part] = pack({**weights, name: np.asarray(change(np.array(weights[name])))})

    return apply


def rename_part(place: int, name: str) -> Change:
    def change(message: Message) -> None:
        parts = sorted(message.content.array_records)
        if parts:
            part = parts[place % len(parts)]
            record = message.content[part]
            del message.content[part]
            if name:
                message.content[name] = record

    return change


def no_numbers(message: Message) -> None:
    del message.content["numbers"]


NUMBERS = st.sampled_from(
    ["rows", "retain", "forget", "summed", "threshold", "loss", "gradient_passes", "client"]
)
VALUES = st.sampled_from([0.0, -1.0, 0.5, 1e30, float("nan"), float("inf"), 41.0])
PLACES = st.integers(0, 7)
ARRAYS: list[Callable[[Any], Any]] = [
    lambda a: a * np.nan, lambda a: a * 1e30, lambda a: a[..., :1], lambda a: a.ravel(),
    lambda a: np.zeros((3, 3), np.float32), lambda a: a.astype(np.float64), lambda a: a.astype("U3"),
]  # fmt: skip
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(set_number, NUMBERS, VALUES),
    st.builds(drop_number, PLACES),
    st.builds(change_array, PLACES, st.sampled_from(ARRAYS)),
    st.builds(rename_part, PLACES, st.sampled_from(["", "sum", "model", "h", "nobody knows"])),
    st.just(no_numbers),
)


def run(method: Any, change: Change, nth: int) -> Weights:
    """The weights after a request while client 1's `nth` reply (0: each) is changed; the old if it fails."""
    grid, registry = enrolled(SPEC)
    request = ForgetRequest.of_samples({0: range(8), 1: range(4)}, registry.sizes)
    count = 0

    def tamper(message: Message) -> Message:
        nonlocal count
        if message.metadata.src_node_id == registry.nodes[1]:
            count += 1
            if nth in (0, count):
                change(message)
        return message

    stage = Stage("request-1", 0, replace(registry, request=request, trained=1), inputs=inputs(), strict=True)
    named = re.compile(r"client 1\b|\[1\]|sums over other rows")
    start = initial_weights(SPEC)
    with suppress(RoundFailed), reraised(named):
        found: Weights = method.run(RecordingGrid(grid, tamper), start, stage).weights
        return found
    return start


@contextmanager
def reraised(named: re.Pattern[str]) -> Iterator[None]:
    """Let only RoundFailed out, and only with a line that says who or what."""
    try:
        yield
    except RoundFailed as error:
        if not named.search(str(error)) or "\n" in str(error):
            pytest.fail(f"a line that names nobody: {error}")
        raise


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CHANGES, st.integers(0, 5))
def test_a_changed_reply_ends_in_one_line_that_names_the_client(name: str, change: Change, nth: int) -> None:
    weights = run(METHODS[name], change, nth)
    assert all(np.isfinite(array).all() for array in weights.values())


WHOLE = "expected a whole number from 0 to the 40 rows that the client holds"
LARGE = np.full(3, 3e3, np.float32)
MODEL: Weights = {"w": np.ones(3, np.float32), "n": np.array(4, np.int64)}


def test_sums_count_only_from_a_grid_that_declares_them() -> None:
    reply = Reply({"sum": {k: np.zeros(v.shape) for k, v in MODEL.items()}}, {"rows": 2, "summed": 2})
    request = MeanRequest("model", 10)
    assert StreamingMean(request, MODEL).take(reply) == "no model in the reply"
    assert StreamingMean(request, MODEL, sums=True).take(reply) is None
    light = Reply({}, {"rows": 2, "summed": 0})
    assert StreamingMean(request, MODEL).take(light) == "no model in the reply"
    assert StreamingMean(request, MODEL, sums=True).take(light) is None
    many = replace(reply, numbers={"rows": 2, "summed": 11})
    assert (
        StreamingMean(request, MODEL, sums=True).take(many) == "a sum over 11 rows, of 10 that were asked for"
    )


@pytest.mark.parametrize(
    ("arrays", "numbers", "fault"),
    [
        ({"model": {**MODEL, "w": LARGE}}, {}, "model.w holds numbers of 3.0e+03, an absurd size"),
        ({"model": {**MODEL, "w": np.ones(3)}}, {}, "model.w of dtype float64, expected float32"),
        ({"other": {"x": np.array([1e16])}}, {}, "other.x holds numbers of 1.0e+16, an absurd size"),
        ({}, {"rows": 41}, f"rows of 41, {WHOLE}"),
        ({}, {"forget": -1}, f"forget of -1, {WHOLE}"),
        ({}, {"rows": 1.5}, f"rows of 1.5, {WHOLE}"),
        ({"model": MODEL}, {"rows": 40}, None),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_reply_is_said(arrays: Any, numbers: Any, fault: str | None) -> None:
    assert fault_of(Reply(arrays, numbers), {"model": MODEL}, size=40) == fault


def test_a_form_that_most_others_have_not_is_refused() -> None:
    forms = [np.zeros(3), np.zeros(3), np.zeros(2)]
    replies = [Reply({"counts": {"c": form}}, client=k) for k, form in enumerate(forms)]
    assert list(unlike_others(replies)) == [2]
