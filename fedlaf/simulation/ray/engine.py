"""The Ray engine's configuration: it starts a Ray on this machine, and ends what it started."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

import ray
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fedlaf.core.errors import InvalidValue, require, require_count, require_number
from fedlaf.simulation import flower_compat
from fedlaf.simulation.inline import server_context
from fedlaf.simulation.ray.grid import RayGrid
from fedlaf.simulation.ray.pool import Pool, on_gpus, room
from fedlaf.simulation.ray.start import reach, short_folder

SETTINGS = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # no rebuilt environments under `uv run`
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # GPUs left visible
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # workers do the work: Ray would let everything else go first
}
"""What Ray reads from the environment when it starts."""

ASKED = ("CPU", "GPU", "memory")
"""What workers take of a cluster."""

_warm: dict[tuple[Any, ...], Pool] = {}
"""The pool of this process's Ray, for the next job of a multirun."""

_started: list[str] = []
"""The node of the Ray that this module has started last: any other Ray is the caller's, and left as it is."""


@dataclass(frozen=True)
class Ray:
    """Ray on this machine: `workers` None is one per core; shares are per worker.

    With `sums`, workers add up what the server only needs the mean of. What is started stays warm for the
    next job of this process, and ends with it. A Ray that the caller has started is used where it has room,
    and left as it was.
    """

    workers: int | None = None
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    object_store_mb: int = 512
    sums: bool = True

    def __post_init__(self) -> None:
        if self.workers is not None:
            require_count("workers", self.workers)
        require_number("cpus_per_worker", self.cpus_per_worker, above=0)
        _check_share(self.gpus_per_worker)
        require_count("object_store_mb", self.object_store_mb, at_least=80)

    def run(self, server: ServerApp, client: ClientApp, clients: int) -> None:
        """Run a server app over `clients` clients."""
        flower_compat.quiet()
        if of_the_caller():
            guest = RayCluster(
                "auto", self.workers, self.cpus_per_worker, self.gpus_per_worker, sums=self.sums
            )
            return guest.work(server, client, clients)
        workers = min(self.workers or len(os.sched_getaffinity(0)), clients)
        grid = RayGrid(client, clients, self.pool(workers), sums=self.sums)
        with _collector_at_rest():
            server(grid, server_context())

    def pool(self, workers: int) -> Pool:
        """A pool of workers: the one of an earlier job, where it fits."""
        key = (workers, self.cpus_per_worker, self.gpus_per_worker, self.object_store_mb)
        if not ray.is_initialized():
            _warm.clear()
        if key not in _warm:
            self._make_room(workers)
            options = {
                "num_cpus": self.cpus_per_worker,
                "num_gpus": self.gpus_per_worker,
                "max_restarts": 0,
            }
            _warm[key] = Pool(options, [None] * workers)
        return _warm[key]

    def _make_room(self, workers: int) -> None:
        """A Ray that is large enough and has no workers."""
        stores = {key[-1] for key in _warm}
        dismiss()
        if stores - {self.object_store_mb}:
            ray.shutdown()
        if ray.is_initialized() and ray.cluster_resources().get("CPU", 0) < workers * self.cpus_per_worker:
            ray.shutdown()
        if not ray.is_initialized():
            self.connect(workers)
        else:
            self._check_gpus(workers)

    def connect(self, workers: int) -> None:
        """Start a Ray for `workers` workers. Raises InvalidValue for more GPUs than there are."""
        os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})
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
            _temp_dir=short_folder(),
        )
        _started[:] = [ray.get_runtime_context().get_node_id()]
        self._check_gpus(workers)

    def _check_gpus(self, workers: int) -> None:
        have = float(ray.cluster_resources().get("GPU", 0.0))
        share = self.gpus_per_worker
        if share > 0 and on_gpus(share, have) < workers:  # such workers would wait for ever
            end()
            expected = f"a share that {workers} workers can have of {have:g} GPUs"
            raise InvalidValue("engine.gpus_per_worker", expected, share)


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster that is there already: it is joined, used where it has room, and left as it was.

    `address` is `auto` on a node of the cluster, else host:port.

    `workers` None is as many as fit into what is free, on each node: a worker takes its shares of
    CPUs and GPUs and, unless it is 0, `memory_mb` of memory, which Ray sets aside for it.
    """

    address: str = "auto"
    workers: int | None = None
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    memory_mb: int = 0
    sums: bool = True

    def __post_init__(self) -> None:
        if self.workers is not None:
            require_count("workers", self.workers)
        require_number("cpus_per_worker", self.cpus_per_worker, above=0)
        _check_share(self.gpus_per_worker)
        require_count("memory_mb", self.memory_mb, at_least=0)

    def run(self, server: ServerApp, client: ClientApp, clients: int) -> None:
        """Run a server app over `clients` clients. Raises InvalidValue for a cluster without room."""
        flower_compat.quiet()
        end()
        if ray.is_initialized():
            here = ray.get_runtime_context().gcs_address
            expected = f"auto or {here}, the cluster that this process has joined already"
            require(self.address in ("auto", here), "engine.address", expected, self.address)
            return self.work(server, client, clients)
        self.connect()
        try:
            self.work(server, client, clients)
        finally:
            ray.shutdown()  # leaves the cluster; only who started it can end it

    def work(self, server: ServerApp, client: ClientApp, clients: int) -> None:
        """Run a server app on workers that end with it, in the Ray that this process has joined."""
        pool = self.pool(clients)
        try:
            with _collector_at_rest():
                server(RayGrid(client, clients, pool, sums=self.sums), server_context())
        finally:
            pool.close()

    def connect(self) -> None:
        """Join the cluster. Raises InvalidValue when nothing answers there."""
        os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})
        try:
            reach(self.address)
            ray.init(
                address=self.address,
                namespace="fedlaf",
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
        except (OSError, RuntimeError, ValueError) as error:
            why = str(error).strip().split("\n")[0]
            expected = f"the address of a Ray cluster that answers ({why})"
            raise InvalidValue("engine.address", expected, self.address) from error

    def pool(self, clients: int) -> Pool:
        """Workers where there is room for them."""
        memory = self.memory_mb * 2**20
        places = room(self.cpus_per_worker, self.gpus_per_worker, memory)
        wanted = min(self.workers or len(places), clients)
        if not places or len(places) < wanted:
            free = ", ".join(
                f"{v:.6g} {k}" for k, v in sorted(ray.available_resources().items()) if k in ASKED
            )
            raise InvalidValue("engine.workers", f"at most {len(places)}: free are {free}", wanted or 1)
        options = {"num_cpus": self.cpus_per_worker, "num_gpus": self.gpus_per_worker, "max_restarts": 0}
        if memory:
            options["memory"] = memory
        return Pool(options, places[:wanted])


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Spare what is there already the garbage collector: each pass over all of torch stops the workers."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _check_share(gpus: float) -> None:
    require_number("gpus_per_worker", gpus, at_least=0)
    require(gpus <= 1 or gpus == int(gpus), "gpus_per_worker", "at most 1, or a whole number of GPUs", gpus)


def dismiss() -> None:
    """End the warm workers; Ray stays."""
    for pool in _warm.values():
        pool.close()
    _warm.clear()


def of_the_caller() -> bool:
    """Whether this process has a Ray that somebody else has started or joined."""
    return ray.is_initialized() and ray.get_runtime_context().get_node_id() not in _started


def end() -> None:
    """End the Ray that this module has started, and with it the warm pool."""
    _warm.clear()
    if ray.is_initialized() and not of_the_caller():
        ray.shutdown()
