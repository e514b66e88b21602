"""The runs of a comparison: processes of one core each, and none that an earlier comparison finished."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from rich.progress import Progress

from fedlaf import report
from fedlaf.core.errors import RoundFailed
from fedlaf.experiment import pipeline
from fedlaf.experiment.comparison.plan import Comparison, Run, finished, job
from fedlaf.experiment.config import USER_ERRORS, explained, plain
from fedlaf.experiment.plan import prepare


@dataclass(frozen=True)
class Done:
    """What became of a run: its report, or why there is none."""

    run: Run
    report: dict[str, Any] | None
    error: str = ""


def run_all(comparison: Comparison, ended: Callable[[Done], None]) -> list[Done]:
    """All runs, `comparison.jobs` at a time: the first of each seed, then those that take it up.

    `ended` is told of each as it ends. What cannot be run is part of the result, not an error.
    """
    context = multiprocessing.get_context("spawn")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes' own, before they import torch
    with ProcessPoolExecutor(comparison.jobs, mp_context=context) as pool:
        found = []
        for done in _as_they_end(comparison, pool):
            ended(done)
            found.append(done)
    return found


def _as_they_end(comparison: Comparison, pool: ProcessPoolExecutor) -> Iterator[Done]:
    running: set[Future[Done]] = {pool.submit(made, base) for base in comparison.bases()}
    while running:
        ready, running = wait(running, return_when=FIRST_COMPLETED)
        for future in ready:
            done = future.result()
            if done.run.after is None:
                later = comparison.runs(done.run)
                if done.report is None:
                    yield from (Done(run, None, f"its training: {done.error}") for run in later)
                else:
                    running |= {pool.submit(made, run) for run in later}
            yield done


def made(run: Run) -> Done:
    """The run's report: that of an earlier comparison where it is of the same configuration."""
    try:
        config = job(run)
        kept = finished(run, plain(config))
        if kept is not None:
            return Done(run, kept, _stopped(kept))
        if run.after is not None:
            config.resume = str(run.after)
        run.folder.mkdir(parents=True, exist_ok=True)
        choice = next(key.removeprefix("forget=") for key in run.overrides[::-1] if key.startswith("forget="))
        told = pipeline.run(prepare(config, choice), run.folder, report.Watch(Progress(disable=True)))
    except USER_ERRORS as error:
        return Done(run, None, explained(error))
    except RoundFailed as error:
        return Done(run, None, str(error))
    except Exception as error:  # one faulty method must not take the others along
        return Done(run, None, f"{type(error).__name__}: {error}")
    report.write(told, run.folder)
    kept = finished(run, plain(config))
    return Done(run, kept, _stopped(kept))


def _stopped(kept: dict[str, Any] | None) -> str:
    """Why the method stopped its request, if it did."""
    last = kept["requests"][-1] if kept and kept["requests"] else None
    if last is None or not last["stopped"]:
        return ""
    return f"stopped: {last['findings'][-1]['message']}"
