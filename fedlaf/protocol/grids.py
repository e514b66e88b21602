"""A grid that passes everything on to another: what changes one thing about a grid starts from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedlaf.core.types import ClientId
from fedlaf.protocol.private_states import KeepsStates


class Relay(Grid):
    """All that the inner grid does."""

    def __init__(self, inner: Grid) -> None:
        self.inner = inner

    @property
    def sends_sums(self) -> bool:
        """Whether replies may carry sums over several clients."""
        return bool(getattr(self.inner, "sends_sums", False))

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self.inner.set_run(run)

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self.inner.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """A message to a node."""
        return self.inner.create_message(*args, **kwargs)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are there."""
        return self.inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages."""
        return self.inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there, each once."""
        return self.inner.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and give their replies."""
        return self.inner.send_and_receive(messages, timeout=timeout)

    def private_states(self) -> Mapping[ClientId, RecordDict] | None:
        """The private state of each client that has one; None where they are out of reach."""
        return self.inner.private_states() if isinstance(self.inner, KeepsStates) else None

    def restore_states(self, states: Mapping[ClientId, RecordDict]) -> None:
        """Let clients have these states, and the others none; nothing where they are out of reach."""
        if isinstance(self.inner, KeepsStates):
            self.inner.restore_states(states)

    def drop_clients(self, clients: frozenset[ClientId]) -> None:
        """Forget what is kept of clients that have withdrawn."""
        if isinstance(self.inner, KeepsStates):
            self.inner.drop_clients(clients)
