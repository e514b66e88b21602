"""The registry of client steps: a new step is one function, and messages call registered names alone."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from support.federations import enrolled, initial_weights, small_spec

from fedlaf.client import make_client_app, steps
from fedlaf.client.context import ClientContext
from fedlaf.client.registry import STEPS, NoSettings, client_step, import_steps
from fedlaf.core.errors import InvalidValue
from fedlaf.core.request import RowSplit
from fedlaf.protocol.messages import Instruction, Part, Reply, decode_reply, encode_instruction, pack
from fedlaf.simulation import InlineGrid

STANDARD = steps.__name__
OUTSIDE = """
    from dataclasses import dataclass
    from fedlaf.client.registry import client_step
    from fedlaf.core.cost import Cost
    from fedlaf.protocol.messages import Reply

    @dataclass(frozen=True)
    class Scale:
        factor: float = 1.0
        times: int = 1

    @client_step("scale_model", Scale)
    def scale_model(context, settings):
        by = settings.factor ** settings.times
        model = {k: by * v for k, v in context.instruction.weights("model").items()}
        numbers = {"forget": len(context.forget_positions), "retain": context.retain_count}
        return Reply({"model": model}, numbers, Cost(forward_passes=3))
"""


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder on the path with modules that are not ours; what a test registers is forgotten after it."""
    (tmp_path / "outside_steps.py").write_text(textwrap.dedent(OUTSIDE))
    (tmp_path / "bystander.py").write_text("")
    (tmp_path / "needs_more.py").write_text("import a_module_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    import_steps([STANDARD])  # once in a process: what it registers must outlive the test
    before = dict(STEPS)
    yield
    STEPS.clear()
    STEPS.update(before)
    for name in ("outside_steps", "bystander", "needs_more"):
        sys.modules.pop(name, None)


def another(context: ClientContext, settings: NoSettings) -> Reply:
    return Reply()


def answer(step: str, settings: dict[str, Any], modules: tuple[str, ...]) -> Message:
    """The reply of client 1, of 60 rows, asked to forget three of them."""
    spec = replace(small_spec(rows=240), steps=modules)
    weights = initial_weights(spec)
    grid, registry = enrolled(spec, InlineGrid(make_client_app(spec), 4))
    instruction = Instruction({Part.MODEL: pack(weights)}, settings, 0, "request-1", 1, RowSplit((1, 2, 5)))
    sent = Message(encode_instruction(instruction), registry.nodes[1], f"train.{step}")
    (reply,) = grid.send_and_receive([sent])
    return reply


def test_a_step_from_a_new_module_is_called_with_its_settings() -> None:
    message = answer("scale_model", {"factor": 0.5, "times": 2}, (STANDARD, "outside_steps"))
    assert not message.has_error()
    reply = decode_reply(message, 1)
    start = initial_weights(small_spec(rows=240))
    assert all(np.array_equal(reply.arrays[Part.MODEL][k], 0.25 * start[k]) for k in start)
    assert reply.numbers == {"forget": 3, "retain": 57}
    assert reply.cost.forward_passes == 3


def test_settings_that_a_message_leaves_out_keep_their_defaults() -> None:
    reply = decode_reply(answer("scale_model", {"factor": 2.0}, (STANDARD, "outside_steps")), 1)
    start = initial_weights(small_spec(rows=240))
    assert all(np.array_equal(reply.arrays[Part.MODEL][k], 2 * start[k]) for k in start)


@pytest.mark.parametrize("name", ["scale_model", "bystander", "antigravity"])
def test_an_unregistered_name_is_an_error_reply_and_imports_nothing(name: str) -> None:
    before = set(sys.modules)
    reply = answer(name, {}, (STANDARD,))
    assert reply.has_error()
    assert name in reply.error.reason
    assert not {"bystander", "antigravity", "outside_steps"} & (set(sys.modules) - before)


def test_a_name_that_is_taken_is_refused_and_stays_what_it_was() -> None:
    before = STEPS["fit"]
    with pytest.raises(ValueError, match=r"'fit' is registered by fedlaf\.client\.steps\.training\.fit$"):
        client_step("fit", NoSettings)(another)
    assert STEPS["fit"] is before


def test_the_same_function_may_register_again() -> None:
    # A module that is run anew, as in a notebook, is no conflict.
    for _ in range(2):
        assert client_step("another", NoSettings)(another) is another
    assert STEPS["another"].run is another


@pytest.mark.parametrize("name", ["", "two words", "a.b", "1st", "train/fit", "fit\n"])
def test_a_name_must_be_an_identifier(name: str) -> None:
    before = dict(STEPS)
    with pytest.raises(ValueError, match="must be an identifier, got"):
        client_step(name, NoSettings)(another)
    assert before == STEPS


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        ("no_such_module", "No module named 'no_such_module'"),
        ("fedlaf.client.steps.nowhere", "nowhere"),
        ("needs_more", "No module named 'a_module_that_nobody_has'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_refused_in_one_line(module: str, missing: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        make_client_app(replace(small_spec(rows=240), steps=(STANDARD, module)))
    line = str(caught.value)
    assert line.startswith("client.steps: expected modules that can be imported (")
    assert line.endswith(f"), got '{module}'")
    assert missing in caught.value.expected
    assert "\n" not in line
