"""Whose rows are there, rest or are gone in a state of the stream: the registries that stages are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from fedlaf.core.request import ForgetRequest
from fedlaf.core.stream import Arrival, Cancel
from fedlaf.core.types import ClientId
from fedlaf.data import LabelledRows
from fedlaf.data.federation import Federation
from fedlaf.experiment.stream.identities import joined, registry_with, remaining, rows_of, with_identities
from fedlaf.experiment.stream.service import Stream
from fedlaf.experiment.stream.state import Pending, StreamState
from fedlaf.method.contract import ClientRegistry


@dataclass(frozen=True)
class Roll:
    """The clients of a state. `enrolled` is the registry of those that were there at the start,
    `meanings` the rows of requests that were looked up before.
    """

    stream: Stream
    original: Federation
    enrolled: ClientRegistry
    state: StreamState
    meanings: dict[tuple[Arrival, int], ForgetRequest] = field(default_factory=dict, compare=False)

    @cached_property
    def federation(self) -> Federation:
        """With the new identities of clients that came back."""
        return with_identities(self.original, self.state.identities)

    @cached_property
    def gone(self) -> ForgetRequest:
        """Rows of requests that were served, refused, or failed: nobody touches them."""
        return self._rows(self.state.resolved)

    @cached_property
    def registry(self) -> ClientRegistry:
        """All clients, without the rows that are gone."""
        return replace(registry_with(self.enrolled, self.state.identities), removed=self.gone)

    @cached_property
    def absent(self) -> frozenset[ClientId]:
        """Clients that nobody reaches now: gone, or offline."""
        now, events = self.state.round, self.state.events
        back = {event.id for event in events if isinstance(event, Cancel)}
        asked = [event for event in events if isinstance(event, Arrival) and event.id not in back]
        away = {a.client for a in asked if a.leaver == "gone" or (a.offline and not a.reachable(now))}
        return frozenset(client for client in away if client is not None)

    def training(self) -> ClientRegistry:
        """Whom training asks: neither rows that are gone or rest, nor clients that are not reached."""
        return replace(self.registry, removed=self._unused(()))

    def asked(self, batch: Sequence[Pending]) -> ClientRegistry:
        """What a batch asks to forget, before it is said whether its clients are reached."""
        request = self._rows([p.request for p in batch]).without(self.gone)
        whole = joined([self.gone, request], self.sizes)
        withdrawing = frozenset(k for k in request.rows if k in whole.withdrawn)
        request = ForgetRequest(request.rows, withdrawing)
        unused = self._unused([p.request.id for p in batch]).without(request)
        removed = ForgetRequest.of_samples(unused.rows, self.sizes)
        return replace(self.registry, request=request, removed=removed, trained=self.state.round)

    def rows_left(self, request: Arrival) -> int:
        """How many rows a request asks to forget that are not gone; 0 also where no row would remain."""
        if request.client is not None and request.client not in self.sizes:
            rows_of(request, self.original.holdings)  # says which clients there are
        meant = self._rows([request]).without(self.gone)
        waiting = [p.request for p in self.state.waiting]
        after = joined([self.gone, self._rows([*waiting, request])], self.sizes)
        enough = remaining(after, self.sizes) > 0
        return sum(map(len, meant.rows.values())) if enough else 0

    def meant(self, request: Arrival) -> ForgetRequest:
        """The rows that a request means, whether they are gone or not."""
        return self._rows([request])

    def meant_rows(self, request: Arrival) -> LabelledRows:
        """Those rows with their labels, for measurements from outside the federation."""
        parts = [
            self.federation.client(client).rows.at(torch.tensor(rows))
            for client, rows in self.meant(request).rows.items()
        ]
        return LabelledRows(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]))

    def without(self, batch: Sequence[Pending]) -> ClientRegistry:
        """The registry once the batch is over."""
        rows = self._rows([p.request for p in batch])
        return replace(self.registry, removed=joined([self.gone, rows], self.sizes))

    def _unused(self, but: Sequence[str]) -> ForgetRequest:
        """Rows that a stage leaves out: gone, resting unless of the requests `but`, or of absent clients."""
        waiting = [p.request for p in self.state.waiting if p.request.id not in but]
        resting = waiting if self.stream.service.until_served == "rest" else []
        serving = [p.request for p in (self.state.serving.batch if self.state.serving else ())]
        asking = {p.request.client for p in self.state.pending if p.request.id in but}
        away = [k for k in sorted(self.absent - asking) if k in self.sizes]
        parts = [self.gone, self._rows([*resting, *serving]), ForgetRequest.of_clients(away, self.sizes)]
        return joined(parts, self.sizes)

    def _rows(self, requests: Sequence[Arrival]) -> ForgetRequest:
        return joined([self._meaning(request) for request in requests], self.sizes)

    def _meaning(self, request: Arrival) -> ForgetRequest:
        key = request, len(self.state.identities)  # all clients are more, once one is back
        if key not in self.meanings:
            self.meanings[key] = rows_of(request, self.federation.holdings)
        return self.meanings[key]

    @cached_property
    def sizes(self) -> dict[ClientId, int]:
        """Rows of each client, new identities included."""
        return dict(registry_with(self.enrolled, self.state.identities).sizes)
