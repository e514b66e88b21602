"""Clients' private states as plain values and arrays, for a checkpoint of a grid that keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedlaf.core.types import ClientId
from fedlaf.protocol.messages import pack, unpack

KINDS = {"arrays": ArrayRecord, "config": ConfigRecord, "metrics": MetricRecord}
"""Records that a state may hold, by their name in a checkpoint."""


@runtime_checkable
class KeepsStates(Protocol):
    """A grid that keeps its clients' private states itself, as a simulation does."""

    def private_states(self) -> Mapping[ClientId, RecordDict] | None:
        """The state of each client that has one; None where the clients' nodes have them, out of reach."""

    def restore_states(self, states: Mapping[ClientId, RecordDict]) -> None:
        """Let clients have these states, and the others none."""

    def drop_clients(self, clients: frozenset[ClientId]) -> None:
        """Forget what is kept of clients that have withdrawn."""


def state_values(state: RecordDict) -> dict[str, Any]:
    """One client's state: by name the kind of record, and what it holds."""
    found = {}
    for name, record in state.items():
        kind = next(kind for kind, of in KINDS.items() if isinstance(record, of))
        found[name] = (kind, unpack(record) if isinstance(record, ArrayRecord) else dict(record))
    return found


def state_of(values: Mapping[str, Any]) -> RecordDict:
    """The state that gave these values. Raises KeyError or TypeError for others."""
    records = {name: _record(kind, held) for name, (kind, held) in values.items()}
    return RecordDict(records)


def states_values(states: Mapping[ClientId, RecordDict]) -> dict[ClientId, Any]:
    """The states of all clients that have one."""
    return {client: state_values(state) for client, state in sorted(states.items()) if len(state)}


def states_of(values: Mapping[ClientId, Any]) -> dict[ClientId, RecordDict]:
    """The states that gave these values."""
    return {int(client): state_of(held) for client, held in values.items()}


def _record(kind: str, held: Any) -> Any:
    return pack(held) if kind == "arrays" else KINDS[kind](held)
