"""The Ray grid against the bare loop and against Flower's own simulation engine.

    python -m benchmarks.engine [--only NAME ...] [--rounds 5] [--repeats 3] [--json FILE]

The work is federated averaging of the paper's CNN (1.8 MB) on random images, batches of 32. The bare
loop is one process a core that loads the global weights into a resident model, takes the steps, and
adds the result to a sum: what no engine can beat. Each side runs in a process of its own, in turn;
seconds are medians of steady rounds (the first is left out). Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

BATCH = 32


@dataclass(frozen=True)
class Work:
    """`clients` of `rows` rows each, of which `cohort` (None: all) take `steps` steps a round."""

    clients: int
    steps: int
    rows: int
    cohort: int | None = None

    @property
    def asked(self) -> int:
        """Clients that a round asks."""
        return self.cohort or self.clients


def work(clients: int, steps: int) -> Work:
    """Each client has the rows of its steps."""
    return Work(clients, steps, steps * BATCH)


STEADY = {"100x5": work(100, 5), "400x1": work(400, 1), "1000x1": work(1000, 1)}
MEMORY = {"few": work(100, 1), "many": Work(5000, 1, 8)}
SAMPLED = {"all of 100": Work(100, 1, 8), "100 of 10,000": Work(10_000, 1, 8, cohort=100)}


def spec_of(given: Work) -> Any:
    """The federation and the model."""
    from fedlaf.client.store import ClientSpec
    from fedlaf.data import Iid, Noise
    from fedlaf.federation import FederationSpec
    from fedlaf.models import Cnn

    source = Noise(train_rows=given.clients * given.rows, test_rows=10)
    return ClientSpec(FederationSpec(source, Iid(), given.clients, 0), Cnn(), "cpu")


def start_of(spec: Any) -> dict[str, Any]:
    """The initial weights."""
    from fedlaf.client.store import resident_model, weights_of

    return weights_of(resident_model(spec))


# ---- sides: each is run in a process of its own, and gives plain values


def bare(given: Work, rounds: int, workers: int) -> dict[str, Any]:
    """Seconds of each round of the bare loop."""
    spec = spec_of(given)
    weights = start_of(spec)
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for number in range(workers):
        here, there = context.Pipe()
        process = context.Process(target=_bare_worker, args=(there, spec, number, workers), daemon=True)
        process.start()
        pipes.append(here)
        processes.append(process)
    seconds = []
    for _ in range(rounds):
        start = perf_counter()
        for pipe in pipes:
            pipe.send(weights)
        sums = [pipe.recv() for pipe in pipes]
        weights = {k: (sum(s[k] for s in sums) / given.clients).astype(v.dtype) for k, v in weights.items()}
        seconds.append(perf_counter() - start)
    for pipe in pipes:
        pipe.send(None)
    for process in processes:
        process.join()
    return {"rounds": seconds}


def _bare_worker(pipe: Connection, spec: Any, number: int, workers: int) -> None:
    import torch
    from torch.nn import functional

    from fedlaf.client.store import client_data, resident_model
    from fedlaf.data import as_input

    torch.set_num_threads(1)
    model = resident_model(spec)
    model.train()
    mine = [client_data(spec, k).rows for k in range(number, spec.federation.clients, workers)]
    device = torch.device("cpu")
    while (weights := pipe.recv()) is not None:
        state = {k: torch.from_numpy(v) for k, v in weights.items()}
        sums = {k: torch.zeros(v.shape, dtype=torch.float64) for k, v in state.items()}
        for rows in mine:
            model.load_state_dict(state)
            optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
            for batch in torch.randperm(len(rows)).split(BATCH):
                loss = functional.cross_entropy(model(as_input(rows.x[batch], device)).logits, rows.y[batch])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            for name, value in model.state_dict().items():
                sums[name] += value
        pipe.send({k: v.numpy() for k, v in sums.items()})


def ours(given: Work, rounds: int, workers: int) -> dict[str, Any]:
    """Seconds of each round on our Ray grid, of the start, and the driver's peak memory."""
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp

    from fedlaf.client import make_client_app
    from fedlaf.simulation import Ray, RayGrid

    spec, found, first = spec_of(given), {}, []
    server = ServerApp()
    answers = RayGrid.answers

    def timed(grid: RayGrid, messages: Any, timeout: Any) -> Any:
        for reply in answers(grid, messages, timeout):
            if not first:
                first.append(perf_counter())
            yield reply

    RayGrid.answers = timed  # type: ignore[method-assign]

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        found["rounds"] = _trained(grid, spec, given, rounds)

    begin = perf_counter()
    Ray(workers=workers).run(server, make_client_app(spec), given.clients)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**found, "first_reply": first[0] - begin, "peak_mb": peak}


def stock(given: Work, rounds: int, workers: int) -> dict[str, Any]:
    """Seconds of each round under Flower's run_simulation, with the same apps."""
    import warnings

    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation

    from fedlaf.client import make_client_app

    warnings.simplefilter("ignore")
    spec, found, server = spec_of(given), {}, ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        found["rounds"] = _trained(grid, spec, given, rounds)

    resources = {"client_resources": {"num_cpus": 1.0}, "init_args": {"num_cpus": workers}}
    run_simulation(server, make_client_app(spec), given.clients, backend_config=resources)
    return found


def _trained(grid: Any, spec: Any, given: Work, rounds: int) -> list[float]:
    from fedlaf.enrolment import enrol
    from fedlaf.stage import Stage
    from strategies.fedavg import FedAvg

    roster = enrol(grid, expected=given.clients, timeout=600)
    ends = [perf_counter()]
    stage = Stage("train", 0, roster, on_round=lambda record, weights: ends.append(perf_counter()))
    FedAvg(rounds=rounds, cohort=given.cohort).run(grid, start_of(spec), stage)
    return [later - earlier for earlier, later in itertools.pairwise(ends)]


SIDES: dict[str, Callable[[Work, int, int], dict[str, Any]]] = {"bare": bare, "ours": ours, "stock": stock}


def alone(side: str, given: Work, rounds: int, workers: int = 2) -> dict[str, Any]:
    """A side in a process of its own."""
    told = json.dumps({"side": side, "work": given.__dict__, "rounds": rounds, "workers": workers})
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.engine", "--side", told]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode:
        raise SystemExit(f"{side} failed:\n{ended.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


# ---- comparisons


def steady(name: str, rounds: int, repeats: int) -> list[list[str]]:
    """Rounds on our grid over the bare loop's, in turn."""
    given = STEADY[name]
    runs = [(alone("bare", given, rounds + 1), alone("ours", given, rounds + 1)) for _ in range(repeats)]
    slow = [median(ours["rounds"][1:]) for _, ours in runs]
    fast = [median(bare["rounds"][1:]) for bare, _ in runs]
    ratios = sorted(s / f for s, f in zip(slow, fast, strict=True))
    label = f"{given.clients:,} clients x {given.steps} step{'s' if given.steps > 1 else ''}"
    times = f"{median(slow):.2f} s over {median(fast):.2f} s"
    return [[f"{label}, over the bare loop", times, f"{median(ratios):.2f}", _wanted(name)]]


def _wanted(name: str) -> str:
    return {"100x5": "<= 1.08", "400x1": "<= 1.3", "1000x1": "<= 1.3"}[name]


def throughput(rounds: int, repeats: int) -> list[list[str]]:
    """Flower's engine over ours, 1,000 clients of one step."""
    given = STEADY["1000x1"]
    mine = [alone("ours", given, rounds + 1) for _ in range(repeats)]
    theirs = alone("stock", given, 2)
    fast, slow = median(median(run["rounds"][1:]) for run in mine), theirs["rounds"][-1]
    return [["1,000 clients x 1 step, run_simulation over ours", f"{slow:.1f} s over {fast:.2f} s",
             f"{slow / fast:.1f}", ">= 5"]]  # fmt: skip


def begin(rounds: int, repeats: int) -> list[list[str]]:
    """From the engine's start to the first reply."""
    found = [alone("ours", work(10, 1), 1)["first_reply"] for _ in range(repeats)]
    return [["local start to first reply", "", f"{median(found):.1f} s", "<= 8 s"]]


def memory(rounds: int, repeats: int) -> list[list[str]]:
    """The driver's peak memory, 5,000 clients over 100."""
    few, many = (alone("ours", MEMORY[name], 3)["peak_mb"] for name in ("few", "many"))
    return [["driver's peak memory, 5,000 clients over 100", f"{many:.0f} MB over {few:.0f} MB",
             f"{many / few:.2f}", "<= 1.20"]]  # fmt: skip


def sampled(rounds: int, repeats: int) -> list[list[str]]:
    """Rounds that sample 100 of 10,000 clients over rounds of 100 clients."""
    runs = [
        [alone("ours", given, rounds + 1)["rounds"][1:] for given in SAMPLED.values()] for _ in range(repeats)
    ]
    small, large = (median(median(run[i]) for run in runs) for i in (0, 1))
    return [["10,000 clients, 100 sampled, over 100 clients", f"{large:.2f} s over {small:.2f} s",
             f"{large / small:.2f}", "<= 1.2"]]  # fmt: skip


COMPARISONS: dict[str, Callable[[int, int], list[list[str]]]] = {
    **{name: (lambda rounds, repeats, name=name: steady(name, rounds, repeats)) for name in STEADY},
    "throughput": throughput,
    "start": begin,
    "memory": memory,
    "sampled": sampled,
}


def main() -> None:
    from fedlaf.report.tables import markdown

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(COMPARISONS), default=list(COMPARISONS))
    parser.add_argument("--rounds", type=int, default=5, help="steady rounds of a run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--json", type=Path, help="write the table here too")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.side:
        asked = json.loads(told.side)
        print(json.dumps(SIDES[asked["side"]](Work(**asked["work"]), asked["rounds"], asked["workers"])))
        return
    rows = [["work", "measured", "ratio", "wanted"]]
    for name in told.only:
        rows += COMPARISONS[name](told.rounds, told.repeats)
        print(markdown([rows[0], rows[-1]]).splitlines()[-1], file=sys.stderr, flush=True)
    print(markdown(rows))
    if told.json:
        told.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
