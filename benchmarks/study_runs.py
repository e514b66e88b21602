"""The runs of a study: a subprocess each, and none that an earlier study has finished."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.study_plan import Job

REPORT, MADE_WITH = "report.json", "made_with.json"


@dataclass(frozen=True)
class Done:
    """What became of a run: its report, if there is one, and why it failed, if it did."""

    report: Mapping[str, Any] | None
    error: str = ""


def run_all(jobs: list[tuple[Job, Job]], parallel: int) -> list[Done]:
    """Run all (base, job) pairs, `parallel` at a time: first each base once, then the jobs."""
    bases = {base.folder: base for base, _ in jobs}
    with ThreadPoolExecutor(parallel) as pool:
        trained = dict(zip(bases, pool.map(ran, bases.values()), strict=True))
        return list(pool.map(lambda pair: _after(trained[pair[0].folder], *pair), jobs))


def ran(job: Job, resume: Path | None = None) -> Done:
    """The job's run: the one in its folder when it is of the same configuration, else a new one."""
    with _alone(job.folder):
        return finished(job) or _run(job, resume)


def finished(job: Job) -> Done | None:
    """What an earlier study left of this job; None when it left nothing, or something else."""
    try:
        report = json.loads((job.folder / REPORT).read_text())
        made_with = json.loads((job.folder / MADE_WITH).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return Done(report, made_with["error"]) if job.made(report["config"]) else None


def _after(base: Done, trained: Job, job: Job) -> Done:
    # Only the weights of a base run matter: it may have been stopped over its request.
    if base.report is None:
        return Done(None, f"its base run: {base.error}")
    return ran(job, trained.folder)


def _run(job: Job, resume: Path | None) -> Done:
    (job.folder / MADE_WITH).unlink(missing_ok=True)  # what it says is of an earlier run
    clock = perf_counter()
    taken_up = [] if resume is None else [f"resume={_quoted(resume)}"]
    command = [sys.executable, "-m", "fedlaf", *job.overrides, *taken_up]
    command.append(f"hydra.run.dir={_quoted(job.folder)}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    error = _last_line(ended.stderr) or f"exit code {ended.returncode}" if ended.returncode else ""
    _save(job, ended.returncode, error)
    done = finished(job) or Done(None, error or "conf/ was changed while the study ran: start it again")
    print(f"{job.folder}: {done.error or 'done'} ({perf_counter() - clock:.0f} s)", file=sys.stderr)
    return done


def _save(job: Job, code: int, error: str) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    record = {"overrides": job.overrides, "exit_code": code, "error": error}
    (job.folder / MADE_WITH).write_text(json.dumps(record, indent=1))


def _last_line(text: str) -> str:
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    return last.removeprefix("fedlaf: error: ")


def _quoted(path: Path) -> str:
    # As Hydra's grammar has it: temporary folders may have any name.
    return "'" + str(path).replace("'", r"\'") + "'"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other studies out of the folder: two of them may want the same base at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
