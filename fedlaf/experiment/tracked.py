"""A run with its tracker."""

from __future__ import annotations

from pathlib import Path

from fedlaf.experiment.plan import Plan
from fedlaf.experiment.provenance import versions
from fedlaf.report import TrackedRun, Tracking, Watch


def tracked(plan: Plan, folder: Path, watch: Watch, command: str = "") -> Tracking:
    """What a run of the plan is to tell of its rounds, so that its tracker and `watch` know of them."""
    made_with = {**versions(), **plan.provenance}
    run = TrackedRun(folder, plan.method_name, plan.seed, command, plan.config, made_with)
    return Tracking(plan.tracker, run, watch)
