"""Flower's own grid, its replies taken as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic, sleep

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from fedlaf.protocol.grids import Relay
from fedlaf.simulation.grid import CLIENT_FAILED


class PolledGrid(Relay):
    """A grid of Flower's that is asked every `pause` seconds; its own waits for three.

    A SuperLink gives no reply away of a node that it does not know any more, so a reply is safe only
    once it was pulled. Errors that a SuperLink answers with are given the name of the node that was asked.
    """

    def __init__(self, inner: Grid, pause: float = 0.5) -> None:
        super().__init__(inner)
        self.pause = pause

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Replies as they come; what takes longer than `timeout` seconds is left out."""
        deadline = None if timeout is None else monotonic() + timeout
        sent = list(messages)
        accepted = set(self.inner.push_messages(sent))
        waiting = {message.metadata.message_id: message for message in sent}
        for refused in set(waiting) - accepted:
            yield _failed(waiting.pop(refused), "the SuperLink takes no message to this node")
        while waiting and (deadline is None or monotonic() < deadline):
            for reply in self.inner.pull_messages(list(waiting)):
                asked = waiting.pop(reply.metadata.reply_to_message_id)
                yield _failed(asked, reply.error.reason) if _not_its_own(reply, asked) else reply
            sleep(self.pause if waiting else 0.0)


def _not_its_own(reply: Message, asked: Message) -> bool:
    return reply.has_error() and reply.metadata.src_node_id != asked.metadata.dst_node_id


def _failed(asked: Message, why: str | None) -> Message:
    return Message(Error(CLIENT_FAILED, why), reply_to=asked)
