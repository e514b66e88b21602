"""Runs as Ray tasks: on a Ray of this machine, or spread over a cluster without a shared file system."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from omegaconf import DictConfig
from ray.exceptions import RayActorError

from fedlaf.core.errors import InvalidValue, require, require_count, require_number
from fedlaf.experiment.comparison.plan import Run
from fedlaf.experiment.comparison.runs import NOT_STARTED, Done, Submit, made, save
from fedlaf.experiment.config import register
from fedlaf.experiment.interruption import passed_on, told_by
from fedlaf.simulation import Ray, RayCluster

HERE = "local"

ANSWER_SECONDS = 10.0
"""How long a task waits to hear whether it is to end; it goes on where it hears nothing."""


@dataclass(frozen=True)
class RayTasks:
    """Each run is a task of those CPUs and GPUs that gets its training's files and returns its own.

    `address` is that of a cluster, or local: a Ray for `jobs` runs at a time is then started here and ended.
    A Ray that this process has is used instead, and left as it is. A task whose worker or node is lost
    starts again elsewhere, up to `retries` times. When the context ends, what is running is given up; when
    the user interrupts, it ends its round first.
    """

    address: str = HERE
    jobs: int = 2
    cpus_per_run: float = 1.0
    gpus_per_run: float = 0.0
    retries: int = 3

    def __post_init__(self) -> None:
        require_count("jobs", self.jobs)
        require_number("cpus_per_run", self.cpus_per_run, above=0)
        require_number("gpus_per_run", self.gpus_per_run, at_least=0)
        require_count("retries", self.retries, at_least=0)

    @property
    def elsewhere(self) -> bool:
        """Whether runs are made on other machines, of whatever kind."""
        return self.address != HERE

    @contextmanager
    def started(self) -> Iterator[Submit]:
        """Begin to take runs. Raises InvalidValue for a cluster that does not answer."""
        own = not ray.is_initialized()
        if own:
            self._connect()
        try:
            self._check_room()
            end: Any = ray.remote(EndFlag).options(num_cpus=0).remote()
            with passed_on(end.set.remote):
                yield self._submit(end)
        finally:
            if own:
                ray.shutdown()

    def _connect(self) -> None:
        try:
            if self.address == HERE:
                Ray(cpus_per_worker=self.cpus_per_run, gpus_per_worker=self.gpus_per_run).connect(self.jobs)
            else:
                RayCluster(self.address).connect()
        except InvalidValue as error:
            key = {"engine.gpus_per_worker": "runner.gpus_per_run"}.get(error.key, "runner.address")
            raise InvalidValue(key, error.expected, error.received) from error

    def _check_room(self) -> None:
        """Raise InvalidValue when no node is large enough: its tasks would wait for ever."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for key, name, asked in (
            ("cpus_per_run", "CPU", self.cpus_per_run),
            ("gpus_per_run", "GPU", self.gpus_per_run),
        ):
            most = max((node.get(name, 0.0) for node in nodes), default=0.0)
            require(asked <= most, f"runner.{key}", f"at most the {most:g} of the largest node", asked)

    def _submit(self, end: Any) -> Submit:
        task = ray.remote(_elsewhere).options(
            num_cpus=self.cpus_per_run, num_gpus=self.gpus_per_run, max_retries=self.retries,
            scheduling_strategy="SPREAD",
        )  # fmt: skip

        @lru_cache(maxsize=1)  # the methods of a training come one after the other
        def training(folder: Path) -> Any:
            return ray.put(_files(folder))

        def submit(run: Run, config: DictConfig) -> Future[Done]:
            engine = config.engine._target_
            require(engine.endswith(".Inline"), "engine", "inline for runs that are Ray tasks", engine)
            # A training that was interrupted goes on from its own files.
            files = training(run.after) if run.after else ray.put(_files(run.folder))
            future: Callable[[], Future[Done]] = task.remote(run, config, files, end).future
            return future()

        return submit


class EndFlag:
    """An actor that tasks ask, after each round, whether the user wants them to end."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        """The user wants them to end."""
        self.is_set = True

    def asked(self) -> bool:
        """Whether it is set."""
        return self.is_set


class Asking:
    """Asks an EndFlag without `ray.get`: a task that waits for Ray gives its CPU to the next one."""

    def __init__(self, end: Any) -> None:
        self.end, self.answer = end, end.asked.remote().future()

    def is_set(self, seconds: float = 0.0) -> bool:
        """What the flag said last; waits so many seconds for its answer. False where nothing is heard."""
        try:
            found = bool(self.answer.result(seconds))
        except (RayActorError, TimeoutError):  # lost with its node, or out of reach: the run goes on
            return False
        if not found:
            self.answer = self.end.asked.remote().future()
        return found


def _elsewhere(run: Run, config: DictConfig, training: Mapping[str, bytes], end: Any) -> Done:
    """Make a run in a temporary folder, where it lies to its training as it does at home."""
    register()
    asking = Asking(end)
    if asking.is_set(ANSWER_SECONDS):
        return Done(run, None, NOT_STARTED, interrupted=True)
    with told_by(asking.is_set):
        return _made_elsewhere(run, config, training)


def _made_elsewhere(run: Run, config: DictConfig, training: Mapping[str, bytes]) -> Done:
    home = Path(os.path.commonpath([run.folder.parent, run.after or run.folder.parent]))
    with TemporaryDirectory(prefix="fedlaf-") as root:
        at = root / run.folder.relative_to(home)
        after = run.after and root / run.after.relative_to(home)
        save(training, after or at)
        done = made(run, config, at, after)
        return replace(done, files=_files(at))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
