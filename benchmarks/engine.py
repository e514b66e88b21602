"""The Ray grid against the bare loop and against Flower's own simulation engine.

    python -m benchmarks.engine [--only NAME ...] [--rounds 5] [--repeats 3] [--json FILE]

The work is federated averaging of the paper's CNN (1.8 MB) on random images, batches of 32. The bare
loop is one process a core that loads the global weights into a resident model, takes the steps, and
adds the result to a sum: what no engine can beat. Each side runs in a process of its own, in turn;
seconds are medians of steady rounds (the first is left out). Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.engine_sides import SIDES, Work, work

STEADY = {"100x5": work(100, 5), "400x1": work(400, 1), "1000x1": work(1000, 1)}
MEMORY = {"few": work(100, 1), "many": Work(5000, 1, 8)}
SAMPLED = {"all of 100": Work(100, 1, 8), "100 of 10,000": Work(10_000, 1, 8, cohort=100)}


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
    return {"100x5": "<= 1.08", "400x1": "<= 1.2", "1000x1": "<= 1.3"}[name]


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
