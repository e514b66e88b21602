"""What our grids share: node ids, message ids, and one client's turn."""

from __future__ import annotations

import traceback
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import count

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedlaf.core.types import ClientId
from fedlaf.protocol.messages import PARTITION
from fedlaf.simulation import flower_compat
from fedlaf.simulation.flower_compat import FIRST_NODE

CLIENT_FAILED = 1
"""Error code of a reply whose client raised."""


def new_context(client: ClientId, clients: int, run_id: int = 1) -> Context:
    """A client's context at the start of a run."""
    node_config = {PARTITION: client, "num-partitions": clients}
    return Context(run_id, FIRST_NODE + client, node_config, RecordDict(), {})  # type: ignore[arg-type]


def turn(app: ClientApp, message: Message, context: Context) -> Message:
    """The client's answer to `message`; an exception of its own becomes an error reply."""
    try:
        return app(message, context)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename.rsplit('/', 1)[-1]}:{last.lineno}"
        reason = f"{type(error).__name__}: {error} (at {where})"
        return Message(Error(CLIENT_FAILED, reason), reply_to=message)


class LocalGrid(Grid):
    """A Flower grid whose nodes live on this machine or in one cluster; subclasses say how."""

    def __init__(self, clients: int) -> None:
        self.clients = clients
        self._run = flower_compat.identify(run_id=1)
        self._ids = count(1)
        self._replies: dict[str, Message] = {}

    @abstractmethod
    def answers(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        """The replies to `messages`, as they come; what takes longer than `timeout` is left out."""

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

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

    def get_node_ids(self) -> Iterable[int]:
        """One node a client, in partition order."""
        return [FIRST_NODE + client for client in range(self.clients)]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Have the messages answered; their replies wait to be pulled."""
        sent = self._stamped(messages)
        for reply in self.answers(sent, None):
            self._replies[reply.metadata.reply_to_message_id] = reply
        return [message.metadata.message_id for message in sent]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there, each once."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Replies in the order in which they come, while the others are still at work."""
        return self.answers(self._stamped(messages), timeout)

    def _stamped(self, messages: Iterable[Message]) -> list[Message]:
        stamped = list(messages)
        for message in stamped:
            flower_compat.set_message_id(message, str(next(self._ids)))
        return stamped
