"""Who is there: a server learns which node plays which client before anything else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import monotonic, sleep

from flwr.app import Message
from flwr.serverapp import Grid

from fedlaf.core.errors import RoundFailed
from fedlaf.core.types import ClientId
from fedlaf.method.contract import ClientRegistry
from fedlaf.protocol.messages import Instruction, decode_reply, encode_instruction


def enrol(
    grid: Grid, *, expected: int, timeout: float, known: Mapping[ClientId, tuple[int, int]] | None = None
) -> ClientRegistry:
    """Ask every node who it is; the roster is ordered by partition, whatever the node ids are.

    Of the `known` clients, node and rows are known: they are not asked. Nodes of a deployment come when they
    come: they are waited for, up to `timeout` seconds. Raises RoundFailed when a node fails, or when not
    exactly the partitions 0 to `expected` - 1 answer.
    """
    instruction = Instruction({}, {}, 0, "enrol", 0)
    asked = [
        Message(encode_instruction(instruction), node, "query.enrol")
        for node in _nodes(grid, expected - len(known or {}), timeout)
    ]
    found = [(client, node, rows) for client, (node, rows) in (known or {}).items()]
    for message in grid.send_and_receive(asked, timeout=timeout):
        if message.has_error():
            raise RoundFailed(f"a node could not enrol: {message.error.reason}")
        numbers = decode_reply(message, -1).numbers
        found.append((int(numbers["client"]), message.metadata.src_node_id, int(numbers["rows"])))
    found.sort()
    clients = [client for client, _, _ in found]
    if clients != list(range(expected)):
        raise RoundFailed(f"expected partitions 0 to {expected - 1} to enrol, got {clients}")
    return ClientRegistry({k: node for k, node, _ in found}, {k: rows for k, _, rows in found})


def check_rows(registry: ClientRegistry, expected: Mapping[ClientId, int]) -> None:
    """Raise RoundFailed when a client holds another number of rows than the server takes it to hold."""
    for client, rows in expected.items():
        if registry.sizes[client] != rows:
            raise RoundFailed(
                f"client {client} holds {registry.sizes[client]} rows where {rows} were expected: "
                "its node has another configuration or other data"
            )


def _nodes(grid: Grid, expected: int, timeout: float) -> Iterable[int]:
    deadline = monotonic() + timeout
    while len(nodes := list(grid.get_node_ids())) < expected and monotonic() < deadline:
        sleep(min(0.5, timeout))
    return nodes
