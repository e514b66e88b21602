"""The Ray engine: clients on worker processes, with the model and the data resident in each.

A round's arrays are put once into the object store and shared by all its messages. Partitions
stick to a worker while it has work; an idle worker takes over from the longest queue. Replies
are streamed back as they end. A client's private state is a return value, owned by the driver,
so that it outlives the worker that made it. A dead worker is replaced and its client runs again:
that gives the same bits, since every draw is seeded by its purpose.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import ray
from flwr.app import Error, Message, RecordDict
from flwr.clientapp import ClientApp
from ray.exceptions import (
    ActorUnschedulableError,
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    WorkerCrashedError,
)

from fedlaf.core.types import ClientId
from fedlaf.protocol.messages import requested_mean
from fedlaf.simulation.flower_compat import FIRST_NODE
from fedlaf.simulation.grid import CLIENT_FAILED, LocalGrid
from fedlaf.simulation.ray.pool import Pool

LOST = (
    RayActorError, OutOfMemoryError, WorkerCrashedError, ObjectLostError, NodeDiedError,
    ActorUnschedulableError, GetTimeoutError,
)  # fmt: skip
"""What Ray says of a worker that died, was ended for its memory, went with its node, or is out of reach."""

FETCH_SECONDS = 120.0
"""How long an answer that is ready may take to arrive: 1 GB over 100 Mbit/s takes 80 seconds. After that its
worker counts as lost.
"""

ATTEMPTS = 3
"""How often a client is started before the death of its workers counts as its own failure."""

AHEAD = 2
"""Calls that a worker has at hand: while it works on one, the next is on its way."""

MOST_AT_ONCE = 32
"""Clients in one call, at most; fewer towards the end of a round, so that all workers end together."""


@dataclass
class Item:
    """A client's message on its way: the light part of it, and references to its shared arrays."""

    client: ClientId
    message: Message
    names: list[str]
    shared: list[Any]
    attempts: int = 0


@dataclass
class Batch:
    """Messages that a worker has at hand; `kept` refers to the states that clients leave."""

    items: list[Item]
    worker: int
    actor: Any
    kept: Any = None


class RayGrid(LocalGrid):
    """A Flower grid over Ray actors; with `sums`, workers add up what only its mean is needed of."""

    def __init__(self, app: ClientApp, clients: int, pool: Pool, *, sums: bool = True) -> None:
        super().__init__(clients)
        self.pool, self.sends_sums = pool, sums
        self._states: dict[ClientId, Any] = {}
        pool.play(app, clients)

    def answers(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        """Replies as they come; a client whose workers keep dying is answered for with an error."""
        deadline = None if timeout is None else monotonic() + timeout
        queues = self._queues(messages)
        running: dict[Any, Batch] = {}
        self._supply(queues, running)
        while running:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            done, _ = ray.wait(list(running), num_returns=1, timeout=left)
            if not done:
                self._abandon(running)
                return
            batch = running.pop(done[0])
            replies = self._results(done[0], batch, queues)
            self._supply(queues, running)
            yield from replies
        for item in (item for queue in queues for item in queue):
            yield _failed(item, "no worker is left")

    def private_states(self) -> Mapping[ClientId, RecordDict]:
        """The private state of each client that has one."""
        found = dict(zip(self._states, ray.get(list(self._states.values())), strict=True))
        return {client: state for client, state in found.items() if len(state)}

    def restore_states(self, states: Mapping[ClientId, RecordDict]) -> None:
        """Let clients have these states, and the others none."""
        self._states = {client: ray.put(state) for client, state in states.items()}

    def drop_clients(self, clients: frozenset[ClientId]) -> None:
        """Forget what is kept of clients that have withdrawn."""
        for client in clients:
            self._states.pop(client, None)

    def _queues(self, messages: list[Message]) -> list[deque[Item]]:
        queues: list[deque[Item]] = [deque() for _ in self.pool.actors]
        references: dict[int, Any] = {}
        for message in messages:
            arrays = message.content.array_records
            for record in arrays.values():
                if id(record) not in references:
                    references[id(record)] = ray.put(record)
            without_arrays = RecordDict({k: v for k, v in message.content.items() if k not in arrays})
            shared = [references[id(record)] for record in arrays.values()]
            client = message.metadata.dst_node_id - FIRST_NODE
            queues[client % len(queues)].append(
                Item(client, _with_content(message, without_arrays), list(arrays), shared)
            )
        return queues

    def _supply(self, queues: list[deque[Item]], running: dict[Any, Batch]) -> None:
        """Give every worker something to do and something to go on with."""
        busy = Counter(batch.worker for batch in running.values())
        suspects = {batch.worker for batch in running.values() if batch.items[0].attempts > 1}
        for depth in range(AHEAD):
            for worker, actor in enumerate(self.pool.actors):
                if actor is not None and busy[worker] <= depth and worker not in suspects:
                    items = self._taken(worker, queues, alone=busy[worker] == 0)
                    if items:
                        self._send(worker, items, running)
                        busy[worker] += 1
                        if items[0].attempts > 1:
                            suspects.add(worker)

    def _taken(self, worker: int, queues: list[deque[Item]], *, alone: bool) -> list[Item]:
        """From the worker's own queue, else from the end of the longest; of what is left, a part.

        A client whose worker died runs alone: it may be what killed it.
        """
        own = queues[worker]
        stolen = not own
        queue = max(queues, key=len) if stolen else own
        if not queue:
            return []
        first = queue[-1 if stolen else 0]
        if first.attempts > 0:
            if not alone:
                return []
            return [queue.pop() if stolen else queue.popleft()]
        count = 1
        if self._together(first):
            count = min(MOST_AT_ONCE, max(1, len(queue) // (1 + AHEAD)))
        items: list[Item] = []
        while len(items) < count and queue and _alike(queue[-1 if stolen else 0], first):
            items.append(queue.pop() if stolen else queue.popleft())
        return items

    def _send(self, worker: int, items: list[Item], running: dict[Any, Batch]) -> None:
        actor, first = self.pool.actors[worker], items[0]
        for item in items:
            item.attempts += 1
        batch = Batch(items, worker, actor)
        if self._together(first):
            nodes = [FIRST_NODE + item.client for item in items if item.client in self._states]
            states = [self._states[node - FIRST_NODE] for node in nodes]
            messages = [item.message for item in items]
            method = actor.share.options(num_returns=2)
            replies, batch.kept = method.remote(messages, nodes, first.names, *first.shared, *states)
        else:
            method = actor.turn.options(num_returns=2)
            state = self._states.get(first.client)
            replies, batch.kept = method.remote(first.message, state, first.names, *first.shared)
        running[replies] = batch

    def _together(self, item: Item) -> bool:
        """Whether several of these go into one call: their answers are small, or add up."""
        summed = self.sends_sums and requested_mean(item.message) is not None
        return summed or not item.shared

    def _results(self, reference: Any, batch: Batch, queues: list[deque[Item]]) -> list[Message]:
        try:
            found = ray.get(reference, timeout=FETCH_SECONDS)
            self._keep(batch, found)
        except LOST as death:
            if self.pool.actors[batch.worker] is batch.actor:
                self.pool.replace(batch.worker)
            again = [item for item in batch.items if item.attempts < ATTEMPTS]
            queues[batch.worker].extendleft(reversed(again))
            why = str(death).splitlines()[0]
            return [
                _failed(item, f"its worker died {item.attempts} times: {why}")
                for item in batch.items
                if item.attempts >= ATTEMPTS
            ]
        return found if isinstance(found, list) else [found]

    def _keep(self, batch: Batch, found: Message | list[Message]) -> None:
        """Keep what clients left, as references; here, where a lost node cannot take it along."""
        if isinstance(found, list):
            for node, state in ray.get(batch.kept, timeout=FETCH_SECONDS).items():
                self._states.pop(node - FIRST_NODE, None)
                if state:
                    self._states[node - FIRST_NODE] = ray.put(state)
        elif not found.has_error():
            kept = batch.kept
            if self.pool.spread:
                kept = ray.put(ray.get(kept, timeout=FETCH_SECONDS))
            self._states[batch.items[0].client] = kept

    def _abandon(self, running: dict[Any, Batch]) -> None:
        # Too late for these clients: a fresh worker each, so that nobody waits for the old one.
        for worker in {batch.worker for batch in running.values()}:
            self.pool.replace(worker)


def _alike(one: Item, other: Item) -> bool:
    """Whether two clients can be served by one call."""
    return one.attempts == 0 and one.names == other.names and one.shared == other.shared


def _failed(item: Item, why: str) -> Message:
    return Message(Error(CLIENT_FAILED, why), reply_to=item.message)


def _with_content(message: Message, content: RecordDict) -> Message:
    return Message(content=content, metadata=message.metadata)  # type: ignore[call-overload,no-any-return]
