"""The lives of a run that `benchmarks.faults` ends: their processes, and what can be killed of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedlaf.core.errors import RoundFailed
from fedlaf.experiment import api
from fedlaf.experiment.checkpoints import saved_stages

STOPPED = 3
"""Exit code of a life that ended in one line because clients failed; the run can be resumed."""

FORK = multiprocessing.get_context("fork")


def life(folder: Path, keys: Sequence[str], log: Path) -> None:
    """Begin or go on with the run in a folder: the body of a process."""
    os.setsid()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    try:
        if (folder / "run.json").is_file():
            api.resume(folder)
        else:
            api.run(*keys, folder=folder)
    except RoundFailed as error:  # such as a client whose workers were killed three times: one line
        print(error, file=sys.stderr, flush=True)
        os._exit(STOPPED)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def started(folder: Path, keys: Sequence[str]) -> Any:
    """A process that begins or goes on with a run."""
    process = FORK.Process(target=life, args=(folder, keys, folder.with_suffix(".log")))
    process.start()
    return process


def workers(driver: int) -> list[int]:
    """The worker processes of a driver's Ray: its descendants that are called so."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue

    def below(pid: int) -> bool:
        while pid > 1:
            if pid == driver:
                return True
            pid = parents.get(pid, 0)
        return False

    return [pid for pid in parents if pid != driver and below(pid) and _called_worker(pid)]


def _called_worker(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Worker")
    except OSError:
        return False


def kill(pid: int) -> bool:
    """Whether a process was there to be killed."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def place(folder: Path) -> str:
    """Where a run stands: the stage after the last that was saved, or the one with rounds."""
    saved = saved_stages(folder)
    if not saved:
        return "before anything was saved"
    return saved[-1].split(" ")[0] if "rounds of it" in saved[-1] else f"after {saved[-1]}"
