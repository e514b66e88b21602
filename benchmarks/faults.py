"""Kills drivers and workers at random points of runs, resumes them, and compares the bits with a clean run.

    python -m benchmarks.faults --minutes 10

A run is a stream or a schedule of withdrawals on the digits, in turn. Its process is forked from this one, so
that a life costs no imports, and ended by SIGKILL after a random time; on Ray, worker processes are killed in
between. Then `resume` goes on, until a life ends by itself. A run is lost when it cannot be finished, when
a model or measure differs from the clean run's, or when its ledger does not fit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from safetensors.numpy import load_file

from fedlaf.core.errors import RoundFailed
from fedlaf.core.weights import weights_digest
from fedlaf.experiment import api
from fedlaf.experiment.checkpoints import saved_stages
from fedlaf.experiment.config import composed
from fedlaf.experiment.ledger import verify
from fedlaf.experiment.plan import prepare
from fedlaf.simulation.ray.grid import ATTEMPTS

LEAVES = "{{_target_: fedlaf.data.WithdrawClients, clients: [{}], round: {}}}"
SMALL = (
    "data=digits", "data.test_rows=200", "model=small_cnn", "clients=8", "corruption=none", "train.rounds=10",
    "evaluation.curve_rows=20", "history=[updates,last,magnitudes]",
)  # fmt: skip
REQUESTS = {
    "stream": (
        "stream=poisson", "stream.arrivals.rate=0.5", "stream.arrivals.first=2", "stream.arrivals.seed=3",
        "stream.arrivals.mix.returns=0.3", "stream.arrivals.mix.cancels=0.1",
    ),
    "schedule": (f"requests=[{LEAVES.format(0, 4)},{LEAVES.format(3, 6)},{LEAVES.format(5, 8)}]",),
}  # fmt: skip
"""How requests come, in turn; of the stream, clients return and requests are cancelled."""

METHODS = {
    "laf_adam": ("forget.align.lr=1e-4", "forget.align_rounds=3"),
    "federaser": (),
    "laf_server": (
        "forget.represent_rounds=1",
        "forget.forget_rounds=1",
        "forget.forget_steps=2",
        "forget.recover_rounds=1",
    ),
    "scrub": (),
    "conda": (),
}
"""What runs forget with, in turn, and with which keys: their state between rounds is of every kind."""

STOPPED = 3
"""Exit code of a life that ended in one line because clients failed; the run can be resumed."""

FORK = multiprocessing.get_context("fork")


@dataclass
class Tally:
    """What has happened so far."""

    faults: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    stopped: int = 0
    lost: list[str] = field(default_factory=list)


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


def result(folder: Path) -> tuple[dict[str, str], Any]:
    """The models of a finished run as hashes, and what was measured of them."""
    stages = sorted((folder / "stages").glob("*.safetensors"))
    models = {p.name: weights_digest(load_file(p)) for p in stages if p.name.count(".") == 1}
    report = json.loads((folder / "report.json").read_text())
    counts = (report.get("stream") or {}).get("counts")
    return models, [counts, *(request["models"] for request in report["requests"])]


def campaign(
    folder: Path, keys: Sequence[str], seconds: float, draw: random.Random, tally: Tally, until: float
) -> None:
    """One run, killed again and again until it ends by itself; `seconds` is how long a clean one takes."""
    on_ray = "engine=ray" in keys
    for attempt in range(200):
        process, killed = started(folder, keys), 0
        over = monotonic() > until
        soonest, latest = (10.0, 30.0) if on_ray else (0.2, 0.6 * seconds)  # a Ray takes seconds to start
        limit = monotonic() + (600.0 if over else draw.uniform(soonest, latest))
        while process.is_alive() and monotonic() < limit:
            pause = draw.uniform(2.0, 5.0) if on_ray else 600.0
            process.join(min(pause, max(0.0, limit - monotonic())))
            # By policy a client whose workers died ATTEMPTS times has failed, which changes a result.
            left = ATTEMPTS - 1 - killed if on_ray and not over else 0
            if left and process.is_alive() and (there := workers(process.pid)):
                killed += kill(draw.choice(there))
        tally.faults["worker"] += killed
        if process.is_alive() and kill(process.pid):
            process.join()
            if process.exitcode == 0:
                return
            tally.faults["driver"] += 1
            tally.places[place(folder)] += 1
            continue
        process.join()
        if process.exitcode == 0:
            return
        if process.exitcode == STOPPED:
            tally.stopped += 1
            continue
        raise RuntimeError(
            f"life {attempt + 1} ended with {process.exitcode}: see {folder.with_suffix('.log')}"
        )
    raise RuntimeError("200 lives were not enough")


def jobs(engines: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The keys of one run after the other: ways of requests, methods and engines in turn."""
    for number in itertools.count():
        method, engine = list(METHODS)[number % len(METHODS)], engines[number % len(engines)]
        come = list(REQUESTS.values())[number % len(REQUESTS)]
        more = ("engine.workers=2",) if engine == "ray" else ()
        yield (*SMALL, *come, f"forget={method}", *METHODS[method], f"engine={engine}", *more)


def named(keys: Sequence[str]) -> str:
    """What a run is, without its engine."""
    come = next(name for name, some in REQUESTS.items() if set(some) <= set(keys))
    return f"{come}, {next(key for key in keys if key.startswith('forget='))}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=10.0)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--engines", default="inline,inline,ray", help="in turn")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    until, draw, tally = monotonic() + 60 * given.minutes, random.Random(given.seed), Tally()
    clean: dict[str, tuple[tuple[dict[str, str], Any], float]] = {}
    warm()
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    for keys in jobs(given.engines.split(",")):
        if monotonic() > until:
            break
        method = named(keys)
        if method not in clean:
            begun = monotonic()
            folder = root / f"clean-{len(clean)}"
            process = started(
                folder, [key for key in keys if not key.startswith("engine")] + ["engine=inline"]
            )
            process.join()
            clean[method] = result(folder), monotonic() - begun
        expected, seconds = clean[method]
        folder = root / f"run-{tally.runs}"
        tally.runs += 1
        before, lost = tally.faults.total(), len(tally.lost)
        try:
            campaign(folder, keys, seconds, draw, tally, until)
            found, fault = result(folder), verify(folder).fault
            if found != expected:
                tally.lost.append(f"{method}: other bits than the clean run, {folder}")
            if fault:
                tally.lost.append(f"{method}: {fault}, {folder}")
        except (RuntimeError, OSError) as error:
            tally.lost.append(f"{method}: {error}")
        told = f"{keys[-1] if 'inline' in keys[-1] else 'engine=ray'}, {tally.faults.total() - before} faults"
        print(
            f"run {tally.runs}: {method}, {told}, {'lost' if len(tally.lost) > lost else 'the same bits'}",
            flush=True,
        )
        if len(tally.lost) == lost:
            shutil.rmtree(folder)
    _say(tally)
    sys.exit(1 if tally.lost else 0)


def warm() -> None:
    """Import and build here what each life would import and build for itself."""
    for name in ("matplotlib.pyplot", "ray", "plotly"):
        import_module(name)
    prepare(composed([*SMALL, "forget=laf", "engine=inline"]), "laf")


def _say(tally: Tally) -> None:
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(tally.faults.items()))
    print(f"\nfaults injected: {tally.faults.total()} ({kinds})")
    print(f"runs: {tally.runs}\nruns lost: {len(tally.lost)}")
    for line in tally.lost:
        print(f"  {line}")
    print(f"lives that ended in one line, as a client's workers were killed three times: {tally.stopped}")
    print("where drivers were killed:")
    for name, count in tally.places.most_common():
        print(f"  {name}: {count}")


if __name__ == "__main__":
    main()
