"""Runs in processes of this machine."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from queue import SimpleQueue
from threading import Thread
from typing import ClassVar

from omegaconf import DictConfig

from fedlaf.core.errors import require_count
from fedlaf.experiment import interruption
from fedlaf.experiment.comparison.plan import Run
from fedlaf.experiment.comparison.runs import NOT_STARTED, Done, Submit, finished, made
from fedlaf.experiment.config import register
from fedlaf.experiment.interruption import heed, passed_on

SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Local:
    """`jobs` processes, a run at a time in each, in the run's own folder.

    A process that dies costs the run that it had, which is tried again up to `retries` times. When the
    context ends, what is running is finished and what waits is given up. When the user interrupts, what is
    running ends its round.
    """

    jobs: int = 2
    retries: int = 2

    elsewhere: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_count("jobs", self.jobs)
        require_count("retries", self.retries, at_least=0)

    @contextmanager
    def started(self) -> Iterator[Submit]:
        """Begin to take runs."""
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes' own, before they import torch
        processes: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        end = SPAWN.Event()
        for _ in range(self.jobs):
            processes.put(_process(end))

        def submit(run: Run, config: DictConfig) -> Future[Done]:
            return threads.submit(self._run, processes, end, run, config)

        # A terminal's Ctrl-C goes to all processes: those started by these threads leave it to this one.
        with passed_on(end.set), ThreadPoolExecutor(self.jobs, initializer=_block_interrupts) as threads:
            try:
                yield submit
            finally:
                threads.shutdown(cancel_futures=True)
                while not processes.empty():
                    processes.get().shutdown()

    def _run(
        self, processes: SimpleQueue[ProcessPoolExecutor], end: Event, run: Run, config: DictConfig
    ) -> Done:
        process = processes.get()
        try:
            for left in reversed(range(1 + self.retries)):
                if interruption.requested():
                    return Done(run, None, NOT_STARTED, interrupted=True)
                try:
                    return process.submit(_alone, run, config).result()
                except BrokenProcessPool:
                    process.shutdown()
                    process = _process(end)
                    if not left:
                        return Done(run, None, f"its process died, {1 + self.retries} times")
            raise AssertionError("not reached")
        finally:
            processes.put(process)


def _process(end: Event) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, SPAWN, _begin, (end,))


def _block_interrupts() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _begin(end: Event) -> None:
    """In a new process: it knows the configuration's types, is told when to end, and ends with its parent."""
    register()
    heed(end.is_set)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _alone(run: Run, config: DictConfig) -> Done:
    # Two comparisons at the same time may want the same run: the second waits, and keeps the first's.
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    with (run.folder.parent / f".{run.folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = finished(run, config)
        return made(run, config) if kept is None else Done(run, kept)
