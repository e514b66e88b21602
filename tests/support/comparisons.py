"""A comparison that takes a second a run, and what its runs leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedlaf.experiment.comparison.plan import Comparison, Run, job
from fedlaf.experiment.comparison.runs import made

SMALL = ("data=digits", "data.train_rows=200", "data.test_rows=50", "model=small_cnn", "clients=3",
         "corruption.backdoor.patch=2", "train.rounds=2", "engine=inline", "evaluation.curve_rows=0",
         "history=[updates,last]")  # fmt: skip
BRIEF = ("forget=laf_adam", "forget.warmup_steps=1", "forget.align_rounds=1")


def small(folder: Path, seeds: tuple[int, ...] = (0,), **methods: tuple[str, ...]) -> Comparison:
    """A comparison of one setting; each method is brief LAF with more keys."""
    chosen = {name: (*BRIEF, *keys) for name, keys in methods.items()}
    return Comparison("small", "Small", "", {"": SMALL}, chosen, seeds, folder)


def unlucky(log: Path, deaths: int, seconds: float = 0.0) -> tuple[str, ...]:
    """Keys of a method that is killed in its first `deaths` attempts."""
    target = "forget._target_=support.unlucky.Unlucky"
    return (target, f"+forget.log='{log}'", f"+forget.deaths={deaths}", f"+forget.seconds={seconds}")


def in_order(comparison: Comparison) -> dict[tuple[str, int], dict[str, Any]]:
    """What the runs leave when they are made here, one after the other, in their folders."""
    runs = [run for base in comparison.bases() for run in (base, *comparison.runs(base))]
    for run in runs:
        assert not made(run, job(run)).error
    return {(run.method, run.seed): left_by(run) for run in runs}


def left_by(run: Run) -> dict[str, Any]:
    """Bits of weights and histories, and the measures: what must not depend on the runner."""
    report = json.loads((run.folder / "report.json").read_text())
    arrays = {
        str(path.relative_to(run.folder)): path.read_bytes() for path in run.folder.rglob("*.safetensors")
    }
    assert arrays
    return {"arrays": arrays, "models": [served["models"] for served in report["requests"]]}
