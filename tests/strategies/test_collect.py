"""The replies of a round: which are late, and that finding out takes as long as there are messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fedlaf.strategies.base.collect import ReplyCollector


class Asked:
    """A message that was sent, whose id is looked at."""

    looked = 0

    def __init__(self, id_: str) -> None:
        self.id = id_

    @property
    def metadata(self) -> Any:
        Asked.looked += 1
        return SimpleNamespace(message_id=self.id)


def failing(client: int, to: str) -> Any:
    """A client's reply that says it failed: nothing of it is decoded."""
    metadata = SimpleNamespace(src_node_id=100 + client, reply_to_message_id=to)
    return SimpleNamespace(
        metadata=metadata, has_error=lambda: True, error=SimpleNamespace(reason="out", code=1)
    )


def collected(asked: list[Any], replies: list[Any], clients: int) -> dict[int, str]:
    nodes = {client: 100 + client for client in range(clients)}
    collector = ReplyCollector(nodes, dict.fromkeys(nodes, 1), {}, 1, None, None)
    collector.collect(replies, asked)
    return collector.failed


@pytest.mark.parametrize("clients", [10, 500])
def test_each_message_is_looked_at_once(clients: int) -> None:
    Asked.looked = 0
    asked = [Asked(f"m{client}") for client in range(clients)]
    replies = [failing(client, f"m{client}") for client in range(clients)]
    assert set(collected(asked, replies, clients).values()) == {"out"}
    assert Asked.looked == clients


def test_what_answers_another_round_is_late() -> None:
    asked = [Asked("m0"), Asked("m1")]
    found = collected(asked, [failing(0, "before"), failing(1, "m1")], 2)
    assert found == {0: "no answer in time", 1: "out"}


def test_a_message_that_is_sent_after_the_first_reply_is_known() -> None:
    asked = [Asked("m0"), Asked("")]

    def replies() -> Any:
        yield failing(0, "m0")
        asked[1].id = "m1"
        yield failing(1, "m1")

    assert collected(asked, replies(), 2) == {0: "out", 1: "out"}


def test_a_transport_without_ids_has_no_late_replies() -> None:
    assert collected([Asked(""), Asked("")], [failing(0, "x"), failing(1, "")], 2) == {0: "out", 1: "out"}
