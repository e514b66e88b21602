"""Who answered in a stage, who failed, how often and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedlaf.core.types import ClientId
from fedlaf.method.contract import RoundRecord


@dataclass(frozen=True)
class ClientFailures:
    """One client in one stage: how many rounds asked it, in how many it failed, and why the last time."""

    asked: int
    failed: int
    reason: str


@dataclass(frozen=True)
class Answers:
    """How often clients were asked and failed in one stage, and which ones failed."""

    asked: int = 0
    failed: int = 0
    clients: Mapping[ClientId, ClientFailures] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Sequence[RoundRecord]) -> Answers:
        """The answers over the rounds of a stage."""
        asked = Counter(client for record in records for client in record.asked)
        failed = Counter(client for record in records for client in record.failed)
        reasons = {client: reason for record in records for client, reason in record.failed.items()}
        clients = {k: ClientFailures(asked[k], failed[k], reasons[k]) for k in sorted(failed)}
        return cls(asked.total(), failed.total(), clients)

    @property
    def silent(self) -> list[ClientId]:
        """Clients that failed in every round in which they were asked."""
        return [client for client, found in self.clients.items() if found.failed == found.asked]

    def lines(self, stage: str) -> list[str]:
        """One line a client that failed."""
        return [
            f"{stage}: client {client} failed in {found.failed} of {found.asked} rounds ({found.reason})"
            for client, found in self.clients.items()
        ]


def busiest(records: Sequence[RoundRecord], clients: Sequence[ClientId]) -> float | None:
    """The passes of the busiest of `clients` over their mean, whoever was asked; None where there are none.

    >>> from fedlaf.core.cost import Cost
    >>> record = RoundRecord("fit", 1, (0, 1), {}, {}, Cost(), (30.0, 10.0))
    >>> busiest([record], [0, 1, 2, 3])
    3.0
    """
    spent = dict.fromkeys(clients, 0.0)
    for record in records:
        for client, passes in zip(record.asked, record.passes, strict=False):
            if client in spent:
                spent[client] += passes
    whole = sum(spent.values())
    return max(spent.values()) * len(spent) / whole if whole else None


def clients_answered(records: Sequence[RoundRecord]) -> tuple[ClientId, ...]:
    """The clients that answered at least once over `records`, in order."""
    return tuple(sorted({client for record in records for client in set(record.asked) - set(record.failed)}))
