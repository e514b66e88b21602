"""Runs in processes of this machine."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue

from omegaconf import DictConfig

from fedlaf.core.errors import require_count
from fedlaf.experiment.comparison.plan import Run
from fedlaf.experiment.comparison.runs import Done, Submit, finished, made
from fedlaf.experiment.config import plain, register


@dataclass(frozen=True)
class Local:
    """`jobs` processes, a run at a time in each, in the run's own folder.

    A process that dies costs the run that it had, which is tried again up to `retries` times. When the
    context ends, what is running is finished and what waits is given up.
    """

    jobs: int = 2
    retries: int = 2

    def __post_init__(self) -> None:
        require_count("jobs", self.jobs)
        require_count("retries", self.retries, at_least=0)

    @contextmanager
    def started(self) -> Iterator[Submit]:
        """Begin to take runs."""
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes' own, before they import torch
        processes: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        for _ in range(self.jobs):
            processes.put(_process())

        def submit(run: Run, config: DictConfig) -> Future[Done]:
            return threads.submit(self._run, processes, run, config)

        with ThreadPoolExecutor(self.jobs) as threads:
            try:
                yield submit
            finally:
                threads.shutdown(cancel_futures=True)
                while not processes.empty():
                    processes.get().shutdown()

    def _run(self, processes: SimpleQueue[ProcessPoolExecutor], run: Run, config: DictConfig) -> Done:
        process = processes.get()
        try:
            for left in reversed(range(1 + self.retries)):
                try:
                    return process.submit(_alone, run, config).result()
                except BrokenProcessPool:
                    process.shutdown()
                    process = _process()
                    if not left:
                        return Done(run, None, f"its process died, {1 + self.retries} times")
            raise AssertionError("not reached")
        finally:
            processes.put(process)


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), register)


def _alone(run: Run, config: DictConfig) -> Done:
    # Two comparisons at the same time may want the same run: the second waits, and keeps the first's.
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    with (run.folder.parent / f".{run.folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = finished(run, plain(config))
        return made(run, config) if kept is None else Done(run, kept)
