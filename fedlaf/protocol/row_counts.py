"""The ledger of cost on the server: each row counts once in a run of a stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from flwr.app import Message
from flwr.serverapp import Grid

from fedlaf.core.cost import Cost
from fedlaf.core.types import ClientId
from fedlaf.protocol.grids import Relay
from fedlaf.protocol.messages import tag_run


class TaggedGrid(Relay):
    """A grid whose messages say which run of a stage they belong to; all else is the inner grid's.

    Clients count each row once in a run, and training and retraining have the same streams.
    """

    def __init__(self, inner: Grid, run: str) -> None:
        super().__init__(inner)
        self._name = run

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages."""
        return super().push_messages(self._noted(messages))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and give their replies."""
        return super().send_and_receive(self._noted(messages), timeout=timeout)

    def _noted(self, messages: Iterable[Message]) -> list[Message]:
        sent = list(messages)
        for message in sent:
            tag_run(message, self._name)
        return sent


class DistinctRowCounter:
    """Clients say how many rows they have looked at so far; only what is more than before is a cost.

    `counts` are the most rows (retained, forgotten) that each client has said so far.
    """

    def __init__(self, counts: Mapping[ClientId, tuple[float, float]] | None = None) -> None:
        self._most = dict(counts or {})

    @property
    def counts(self) -> dict[ClientId, tuple[float, float]]:
        """A copy of the counts so far."""
        return dict(self._most)

    def counted(self, client: ClientId, cost: Cost) -> Cost:
        """The cost of a client's answer, with the rows that it had not looked at before."""
        before = self._most.get(client, (0.0, 0.0))
        now = (cost.retain_rows_read, cost.forget_rows_read)
        self._most[client] = (max(before[0], now[0]), max(before[1], now[1]))
        new = [after - seen for after, seen in zip(self._most[client], before, strict=True)]
        return replace(cost, retain_rows_read=new[0], forget_rows_read=new[1])
