"""Who is there: the federation and the registry with new identities of clients that came back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from fedlaf.core.errors import InvalidValue, require
from fedlaf.core.request import ForgetRequest, Holdings
from fedlaf.core.stream import Arrival
from fedlaf.core.types import ClientId
from fedlaf.data.federation import Federation
from fedlaf.method.contract import ClientRegistry


def with_identities(federation: Federation, identities: Mapping[ClientId, ClientId]) -> Federation:
    """The federation in which each new identity holds the rows of the client that it was.

    Numbers that no identity has, below the largest, hold no row.
    """
    known = len(federation)
    origins = [identities.get(k) for k in range(known, max(identities, default=known - 1) + 1)]

    def grown(held: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return (*held, *(held[0][:0] if origin is None else held[origin] for origin in origins))

    parts, labels = grown(federation.parts), grown(federation.labels)
    return replace(
        federation, parts=parts, labels=labels, marks=grown(federation.marks),
        wrong=grown(federation.wrong),
    )  # fmt: skip


def registry_with(registry: ClientRegistry, identities: Mapping[ClientId, ClientId]) -> ClientRegistry:
    """The registry in which each new identity is reached at the node of the client that it was."""
    nodes = {new: registry.nodes[origin] for new, origin in identities.items()}
    sizes = {new: registry.sizes[origin] for new, origin in identities.items()}
    return replace(registry, nodes={**registry.nodes, **nodes}, sizes={**registry.sizes, **sizes})


def rows_of(request: Arrival, holdings: Holdings) -> ForgetRequest:
    """The rows that a request means, whether they are gone or not. Raises InvalidValue for unknown ones."""
    sizes = {k: holdings.size(k) for k in range(len(holdings.labels))}
    clients = None if request.client is None else holdings.known([request.client], "client")
    meant: Mapping[str, Callable[[], ForgetRequest]] = {
        "client": lambda: ForgetRequest.of_clients(clients or [], sizes),
        "rows": lambda: ForgetRequest.of_samples(dict.fromkeys(clients or [], request.rows), sizes),
        "classes": lambda: ForgetRequest.of_classes(request.classes, holdings, clients),
        "wrong_labels": lambda: ForgetRequest.of_wrong_labels(holdings, clients),
    }
    try:
        return meant[request.scope]()
    except InvalidValue as error:
        raise InvalidValue(f"request {request.id!r}, {error.key}", error.expected, error.received) from None


def joined(requests: list[ForgetRequest], sizes: Mapping[ClientId, int]) -> ForgetRequest:
    """The union of requests as one."""
    rows: dict[ClientId, set[int]] = {}
    for request in requests:
        for client, named in request.rows.items():
            rows.setdefault(client, set()).update(named)
    return ForgetRequest.of_samples({k: sorted(named) for k, named in rows.items()}, sizes)


def remaining(removed: ForgetRequest, sizes: Mapping[ClientId, int]) -> int:
    """How many rows are left without those."""
    return sum(sizes.values()) - sum(len(rows) for rows in removed.rows.values())


def check_returns(client: ClientId, known: int) -> None:
    """Raise InvalidValue for the return of a client that never was."""
    require(client < known, "client", f"client ids from 0 to {known - 1}", client)
