"""The Ray engine: clients on worker processes, with the model and the data resident in each.

A round's arrays are put once into the object store and shared by all its messages. Partitions
stick to a worker while it has work; an idle worker takes over from the longest queue. Replies
are streamed back as they end. A client's private state is a return value, owned by the driver,
so that it outlives the worker that made it. A dead worker is replaced and its client runs again:
that gives the same bits, since every draw is seeded by its purpose.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import Any

import ray
from flwr.app import ArrayRecord, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from ray.exceptions import RayActorError

from fedlaf.simulation import flower_private
from fedlaf.simulation.flower_private import FIRST_NODE
from fedlaf.simulation.grid import CLIENT_FAILED, LocalGrid, new_context, turn
from fedlaf.simulation.inline import server_context
from fedlaf.types import ClientId, InvalidValue, require_count, require_number

ATTEMPTS = 3
"""How often a client is started before the death of its workers counts as its own failure."""


class Worker:
    """One process that plays any client."""

    def __init__(self, app: ClientApp, clients: int) -> None:
        import torch

        torch.set_num_threads(1)
        flower_private.quiet()
        flower_private.identify(run_id=1)
        self.app, self.clients = app, clients

    def process(self) -> int:
        """The id of this worker's process."""
        return os.getpid()

    def turn(
        self, message: Message, state: RecordDict | None, names: list[str], *shared: ArrayRecord
    ) -> tuple[Message, RecordDict]:
        """The client's answer and its state afterwards; `shared` are the arrays called `names`."""
        whole = RecordDict({**dict(zip(names, shared, strict=True)), **dict(message.content)})
        message.content = whole
        context = new_context(message.metadata.dst_node_id - FIRST_NODE, self.clients)
        if state is not None:
            context.state = state
        reply = turn(self.app, message, context)
        return reply, context.state


@dataclass
class Job:
    """A message on its way: the light part of it, and references to its shared arrays."""

    client: ClientId
    message: Message
    names: list[str]
    shared: list[Any]
    attempts: int = 0
    worker: int = -1
    kept: Any = None


class RayGrid(LocalGrid):
    """A Flower grid over Ray actors."""

    def __init__(self, app: ClientApp, clients: int, workers: int, options: dict[str, Any]) -> None:
        super().__init__(clients)
        self._app = ray.put(app)
        self._options = options
        self.workers = [self._start() for _ in range(workers)]
        self._states: dict[ClientId, Any] = {}

    def _start(self) -> Any:
        return ray.remote(Worker).options(**self._options).remote(self._app, self.clients)

    def answers(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        """Replies as they come; a client whose workers keep dying is answered for with an error."""
        deadline = None if timeout is None else monotonic() + timeout
        queues = self._queues(messages)
        running: dict[Any, Job] = {}
        for worker in range(len(self.workers)):
            self._next(worker, queues, running)
        while running:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            done, _ = ray.wait(list(running), num_returns=1, timeout=left)
            if not done:
                self._abandon(running)
                return
            job = running.pop(done[0])
            reply = self._result(done[0], job, queues)
            self._next(job.worker, queues, running)
            if reply is not None:
                yield reply

    def _queues(self, messages: list[Message]) -> list[deque[Job]]:
        queues: list[deque[Job]] = [deque() for _ in self.workers]
        references: dict[int, Any] = {}
        for message in messages:
            arrays = message.content.array_records
            for record in arrays.values():
                if id(record) not in references:
                    references[id(record)] = ray.put(record)
            light = RecordDict({k: v for k, v in message.content.items() if k not in arrays})
            shared = [references[id(record)] for record in arrays.values()]
            client = message.metadata.dst_node_id - FIRST_NODE
            job = Job(client, _with_content(message, light), list(arrays), shared)
            queues[client % len(queues)].append(job)
        return queues

    def _next(self, worker: int, queues: list[deque[Job]], running: dict[Any, Job]) -> None:
        own = queues[worker]
        longest = max(queues, key=len)
        if not own and not longest:
            return
        job = own.popleft() if own else longest.pop()
        job.attempts += 1
        state = self._states.get(job.client)
        method = self.workers[worker].turn.options(num_returns=2)
        reply, job.kept = method.remote(job.message, state, job.names, *job.shared)
        job.worker = worker
        running[reply] = job

    def _result(self, reference: Any, job: Job, queues: list[deque[Job]]) -> Message | None:
        try:
            reply: Message = ray.get(reference)
        except RayActorError as death:
            self.workers[job.worker] = self._start()
            if job.attempts < ATTEMPTS:
                queues[job.worker].appendleft(job)
                return None
            reason = f"its worker died {job.attempts} times: {str(death).splitlines()[0]}"
            return Message(Error(CLIENT_FAILED, reason), reply_to=job.message)
        if not reply.has_error():
            self._states[job.client] = job.kept
        return reply

    def _abandon(self, running: dict[Any, Job]) -> None:
        # Too late for these clients: a fresh worker each, so that nobody waits for the old one.
        for job in running.values():
            ray.kill(self.workers[job.worker])
            self.workers[job.worker] = self._start()

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            ray.kill(worker)


def _with_content(message: Message, content: RecordDict) -> Message:
    return Message(content=content, metadata=message.metadata)  # type: ignore[call-overload,no-any-return]


@dataclass(frozen=True)
class Ray:
    """Configuration of the Ray engine: `workers` None is one per core; shares are per worker."""

    workers: int | None = None
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    object_store_mb: int = 512

    def __post_init__(self) -> None:
        if self.workers is not None:
            require_count("workers", self.workers)
        require_number("cpus_per_worker", self.cpus_per_worker, above=0)
        require_number("gpus_per_worker", self.gpus_per_worker, at_least=0)
        require_count("object_store_mb", self.object_store_mb, at_least=80)

    def run(self, server: ServerApp, client: ClientApp, clients: int) -> None:
        """Run a server app over `clients` clients on a Ray that is started here and ended after."""
        flower_private.quiet()
        workers = min(self.workers or len(os.sched_getaffinity(0)), clients)
        started = self.connect(workers)
        try:
            options = {
                "num_cpus": self.cpus_per_worker,
                "num_gpus": self.gpus_per_worker,
                "max_restarts": 0,
            }
            grid = RayGrid(client, clients, workers, options)
            try:
                server(grid, server_context())
            finally:
                grid.close()
        finally:
            if started:
                ray.shutdown()

    def connect(self, workers: int) -> bool:
        """Start a Ray for `workers` workers; False when this process has one already."""
        if ray.is_initialized():
            return False
        # Read when Ray starts: no rebuilt environments under `uv run`, GPUs left visible, no telemetry.
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray protects a local cluster with a token of its own by default, and tells so each time.
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        # "local" is said aloud: without it Ray joins whatever cluster it finds on the machine.
        ray.init(
            address="local",
            num_cpus=ceil(workers * self.cpus_per_worker),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=self.object_store_mb * 2**20,
            configure_logging=False,
        )
        have = float(ray.cluster_resources().get("GPU", 0.0))
        if workers * self.gpus_per_worker > have:  # such workers would wait for ever
            ray.shutdown()
            expected = f"at most {have / workers:g} for {workers} workers on {have:g} GPUs"
            raise InvalidValue("engine.gpus_per_worker", expected, self.gpus_per_worker)
        return True
