"""Kills drivers and workers at random points of runs, resumes them, and compares the bits with a clean run.

    python -m benchmarks.faults --minutes 10

A run is a stream or a schedule of withdrawals on the digits, in turn. Its process is forked from this one, so
that a life costs no imports, and ended by SIGKILL after a random time; on Ray, worker processes are killed in
between. Then `resume` goes on, until a life ends by itself. A run is lost when it cannot be finished, when
a model or measure differs from the clean run's, or when its ledger does not fit.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from safetensors.numpy import load_file

from benchmarks.faults_lives import STOPPED, kill, place, started, workers
from fedlaf.core.weights import weights_digest
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

Result = tuple[dict[str, str], Any]
"""Hashes of a run's models, and what was measured of them."""


@dataclass(frozen=True)
class Job:
    """One run: how requests come, the method, the engine."""

    requests: str
    method: str
    engine: str

    @property
    def name(self) -> str:
        """What it is, without its engine: that changes no bit."""
        return f"{self.requests}, forget={self.method}"

    @property
    def keys(self) -> tuple[str, ...]:
        """Its keys."""
        engine = (f"engine={self.engine}", *(("engine.workers=2",) if self.engine == "ray" else ()))
        return (*SMALL, *REQUESTS[self.requests], f"forget={self.method}", *METHODS[self.method], *engine)


@dataclass
class Tally:
    """What has happened so far."""

    faults: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    stopped: int = 0
    lost: list[str] = field(default_factory=list)


def result(folder: Path) -> Result:
    """The models of a finished run as hashes, and what was measured of them."""
    stages = sorted((folder / "stages").glob("*.safetensors"))
    models = {p.name: weights_digest(load_file(p)) for p in stages if p.name.count(".") == 1}
    report = json.loads((folder / "report.json").read_text())
    counts = (report.get("stream") or {}).get("counts")
    return models, [counts, *(request["models"] for request in report["requests"])]


def campaign(folder: Path, job: Job, seconds: float, draw: random.Random, tally: Tally, until: float) -> None:
    """One run, killed again and again until it ends by itself; `seconds` is how long a clean one takes."""
    on_ray = job.engine == "ray"
    for attempt in range(200):
        process, killed = started(folder, job.keys), 0
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


def jobs(engines: Sequence[str]) -> Iterator[Job]:
    """One run after the other: ways of requests, methods and engines in turn."""
    for turns in zip(cycle(REQUESTS), cycle(METHODS), cycle(engines), strict=False):
        yield Job(*turns)


def cleaned(job: Job, folder: Path) -> tuple[Result, float]:
    """What the job ends with inline when nobody kills it, and how many seconds that takes."""
    begun = monotonic()
    started(folder, replace(job, engine="inline").keys).join()
    return result(folder), monotonic() - begun


def judged(
    job: Job, folder: Path, clean: tuple[Result, float], draw: random.Random, tally: Tally, until: float
) -> None:
    """One run that is killed again and again, noted in the tally; where it is lost, its folder stays."""
    tally.runs += 1
    before, lost = tally.faults.total(), len(tally.lost)
    expected, seconds = clean
    try:
        campaign(folder, job, seconds, draw, tally, until)
        found, fault = result(folder), verify(folder).fault
        if found != expected:
            tally.lost.append(f"{job.name}: other bits than the clean run, {folder}")
        if fault:
            tally.lost.append(f"{job.name}: {fault}, {folder}")
    except (RuntimeError, OSError) as error:
        tally.lost.append(f"{job.name}: {error}")
    ended = "lost" if len(tally.lost) > lost else "the same bits"
    faults = tally.faults.total() - before
    print(f"run {tally.runs}: {job.name}, engine={job.engine}, {faults} faults, {ended}", flush=True)
    if ended != "lost":
        shutil.rmtree(folder)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=10.0)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--engines", default="inline,inline,ray", help="in turn")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    until, draw, tally = monotonic() + 60 * given.minutes, random.Random(given.seed), Tally()
    clean: dict[str, tuple[Result, float]] = {}
    warm()
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    for job in jobs(given.engines.split(",")):
        if monotonic() > until:
            break
        if job.name not in clean:
            clean[job.name] = cleaned(job, root / f"clean-{len(clean)}")
        judged(job, root / f"run-{tally.runs}", clean[job.name], draw, tally, until)
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
