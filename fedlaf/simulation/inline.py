"""The inline engine: one process, clients in order; a debugger works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import monotonic

import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fedlaf.core.types import ClientId
from fedlaf.simulation import flower_compat
from fedlaf.simulation.flower_compat import FIRST_NODE, SERVER_NODE
from fedlaf.simulation.grid import LocalGrid, new_context, turn


class InlineGrid(LocalGrid):
    """Runs each client in this process, one after the other."""

    def __init__(self, app: ClientApp, clients: int) -> None:
        super().__init__(clients)
        self.app = app
        self.contexts: dict[int, Context] = {}

    def answers(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        """Replies in the order of the messages."""
        deadline = None if timeout is None else monotonic() + timeout
        for message in messages:
            if deadline is not None and monotonic() > deadline:
                return
            node = message.metadata.dst_node_id
            if node not in self.contexts:
                self.contexts[node] = new_context(node - FIRST_NODE, self.clients)
            yield turn(self.app, message, self.contexts[node])

    def private_states(self) -> Mapping[ClientId, RecordDict]:
        """The private state of each client that has one."""
        found = {node - FIRST_NODE: context.state for node, context in self.contexts.items()}
        return {client: state for client, state in found.items() if len(state)}

    def restore_states(self, states: Mapping[ClientId, RecordDict]) -> None:
        """Let clients have these states, and the others none."""
        self.contexts = {}
        for client, state in states.items():
            context = new_context(client, self.clients)
            context.state = state
            self.contexts[FIRST_NODE + client] = context

    def drop_clients(self, clients: frozenset[ClientId]) -> None:
        """Forget what is kept of clients that have withdrawn."""
        for client in clients:
            self.contexts.pop(FIRST_NODE + client, None)


@dataclass(frozen=True)
class Inline:
    """Configuration of the inline engine."""

    def run(self, server: ServerApp, client: ClientApp, clients: int) -> None:
        """Run a server app over `clients` inline clients."""
        flower_compat.quiet()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in every worker: the same bits on any engine
        try:
            server(InlineGrid(client, clients), server_context())
        finally:
            torch.set_num_threads(threads)


def server_context() -> Context:
    """The context that a server app is called with."""
    return Context(1, SERVER_NODE, {}, RecordDict(), {})  # type: ignore[arg-type]
