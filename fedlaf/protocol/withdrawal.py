"""Withdrawals that are final: no message goes to a client that has withdrawn, and nothing of it is taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from flwr.app import Message
from flwr.serverapp import Grid

from fedlaf.core.errors import RoundFailed
from fedlaf.core.types import ClientId
from fedlaf.protocol.grids import Relay


class WithdrawalGuard(Relay):
    """A grid that reaches no client that has withdrawn. `refused` counts replies of theirs that came late."""

    def __init__(self, inner: Grid) -> None:
        super().__init__(inner)
        self._gone: dict[int, ClientId] = {}
        self.refused = 0

    def withdraw(self, nodes: Mapping[ClientId, int]) -> None:
        """From now on these clients, at these nodes, are out of reach, and nothing is kept of them."""
        self._gone |= {node: client for client, node in nodes.items()}
        self.drop_clients(frozenset(nodes))

    def admit(self, nodes: Iterable[int]) -> None:
        """Let nodes take part again whose client came back as a new identity."""
        for node in nodes:
            self._gone.pop(node, None)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are there and have not withdrawn."""
        return [node for node in self.inner.get_node_ids() if node not in self._gone]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages. Raises RoundFailed for one to a client that has withdrawn."""
        return super().push_messages(self._checked(messages))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there, but those of clients that have withdrawn."""
        return list(self._taken(super().pull_messages(message_ids)))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and give their replies. Raises RoundFailed for one to a client that has withdrawn."""
        return self._taken(super().send_and_receive(self._checked(messages), timeout=timeout))

    def _checked(self, messages: Iterable[Message]) -> list[Message]:
        sent = list(messages)
        for message in sent:
            client = self._gone.get(message.metadata.dst_node_id)
            if client is not None:
                raise RoundFailed(f"refused: client {client} has withdrawn, no message goes to it")
        return sent

    def _taken(self, replies: Iterable[Message]) -> Iterator[Message]:
        for reply in replies:
            if reply.metadata.src_node_id in self._gone:
                self.refused += 1
            else:
                yield reply
