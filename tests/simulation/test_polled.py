"""Flower's own grid, polled: every reply is taken as it comes, every failure has the name of its node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from time import monotonic
from typing import Any

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid
from support.federations import enrolled, initial_weights, small_spec

from fedlaf.core.errors import RoundFailed
from fedlaf.core.request import ForgetRequest
from fedlaf.method.contract import Stage
from fedlaf.simulation import PolledGrid, flower_compat
from fedlaf.strategies.laf_adam import LafAdam


class SuperLink(Grid):
    """Takes messages and gives away, at each call, what the test says is there by now."""

    def __init__(self, refused: tuple[int, ...] = ()) -> None:
        self._run = flower_compat.identify(run_id=1)
        self.refused, self.pushed, self.pulls = refused, [], 0
        self.ready: dict[int, list[Message]] = {}

    def set_run(self, run: Any) -> None:
        self._run = run

    @property
    def run(self) -> Any:
        return self._run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return [11, 12, 13]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[Any]:
        given = []
        for number, message in enumerate(messages):
            flower_compat.set_message_id(message, str(number))
            self.pushed.append(message)
            given.append(None if message.metadata.dst_node_id in self.refused else str(number))
        return given

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        asked = set(message_ids)
        self.pulls += 1
        found = self.ready.pop(self.pulls, [])
        assert all(reply.metadata.reply_to_message_id in asked for reply in found)
        return found

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Any:
        raise AssertionError("the slow way")


def asking() -> list[Message]:
    flower_compat.identify(run_id=1)
    content = RecordDict({"c": ConfigRecord({"x": 1})})
    return [Message(content, node, "query.enrol") for node in (11, 12, 13)]


def reply(to: Message, number: int) -> Message:
    flower_compat.set_message_id(to, str(number))
    return Message(RecordDict({"c": ConfigRecord({"from": to.metadata.dst_node_id})}), reply_to=to)


def by_the_superlink(to: Message, number: int, why: str) -> Message:
    """An error as a SuperLink makes it: from itself, to itself."""
    flower_compat.set_message_id(to, str(number))
    error = Message(Error(3, why), reply_to=to)
    error.metadata.__dict__["_src_node_id"] = 1
    return error


def test_replies_are_handed_on_as_they_come() -> None:
    link, sent = SuperLink(), asking()
    link.ready = {1: [reply(sent[1], 1)], 3: [reply(sent[0], 0), reply(sent[2], 2)]}
    replies = PolledGrid(link, pause=0.01).send_and_receive(sent, timeout=10)
    first = next(iter(replies))
    assert (first.metadata.src_node_id, link.pulls) == (12, 1)  # nobody waits for the others
    assert [r.metadata.src_node_id for r in replies] == [11, 13]
    assert link.pulls == 3


def test_what_does_not_come_in_time_is_left_out() -> None:
    link, sent = SuperLink(), asking()
    link.ready = {1: [reply(sent[1], 1)]}
    start = monotonic()
    replies = list(PolledGrid(link, pause=0.01).send_and_receive(sent, timeout=0.3))
    assert [r.metadata.src_node_id for r in replies] == [12]
    assert 0.3 <= monotonic() - start < 5


def test_an_error_of_the_superlink_has_the_name_of_the_node_that_was_asked() -> None:
    link, sent = SuperLink(), asking()
    link.ready = {1: [by_the_superlink(sent[0], 0, "Node Unavailable"), reply(sent[1], 1), reply(sent[2], 2)]}
    replies = list(PolledGrid(link, pause=0.01).send_and_receive(sent, timeout=10))
    found = {r.metadata.src_node_id: r for r in replies}
    assert sorted(found) == [11, 12, 13]
    assert found[11].has_error()
    assert found[11].error.reason == "Node Unavailable"
    assert not found[12].has_error()


def test_a_message_that_is_not_taken_is_answered_for_at_once() -> None:
    link, sent = SuperLink(refused=(13,)), asking()
    link.ready = {1: [reply(sent[0], 0), reply(sent[1], 1)]}
    replies = list(PolledGrid(link, pause=0.01).send_and_receive(sent, timeout=10))
    assert [r.metadata.src_node_id for r in replies] == [13, 11, 12]
    assert replies[0].error.reason == "the SuperLink takes no message to this node"


def test_the_rest_is_passed_on() -> None:
    link = SuperLink()
    grid = PolledGrid(link)
    assert list(grid.get_node_ids()) == [11, 12, 13]
    grid.set_run(link.run)
    assert grid.run is link.run
    sent = asking()
    assert list(grid.push_messages(sent)) == ["0", "1", "2"]
    link.ready = {1: [reply(sent[0], 0)]}
    assert [r.metadata.src_node_id for r in grid.pull_messages(["0"])] == [11]
    made = grid.create_message(RecordDict(), "train.fit", 11, "g")
    assert (made.metadata.dst_node_id, made.metadata.group_id) == (11, "g")


class Forgetting(SuperLink):
    """A SuperLink before inline clients; node 1001 is unregistered before its second reply is pulled."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.to_withdrawing = inner, 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[Any]:
        sent = list(messages)
        given = list(self.inner.push_messages(sent))
        self.asked = dict(zip(given, sent, strict=True))
        withdrawing = [message.metadata.dst_node_id == 1001 for message in sent]
        self.to_withdrawing += sum(withdrawing)
        gone = self.to_withdrawing > 2
        return [None if gone and left else i for i, left in zip(given, withdrawing, strict=True)]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for one in self.inner.pull_messages(message_ids):
            asked = self.asked[one.metadata.reply_to_message_id]
            lost = one.metadata.src_node_id == 1001 and self.to_withdrawing == 2
            yield by_the_superlink(asked, int(asked.metadata.message_id), "Node Unavailable") if lost else one


def test_a_node_that_is_unregistered_too_early_stops_its_request_by_name() -> None:
    """A SuperLink gives its replies to nobody: it is asked once more, then the run says who is missing."""
    spec = small_spec(4)
    inner, registry = enrolled(spec)
    request = ForgetRequest.of_clients([0], registry.sizes)
    stage = Stage("request-1", 0, replace(registry, request=request))
    grid, start = PolledGrid(Forgetting(inner), pause=0.01), initial_weights(spec)
    expected = (
        r"request-1, assign_targets round 1: 1 clients asked, 0 answered, 1 failed \[0\]; "
        "client 0: the SuperLink takes no message to this node"
    )
    with pytest.raises(RoundFailed, match=expected):
        LafAdam().run(grid, start, stage)
