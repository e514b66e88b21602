"""Whole runs in this process, and what their reports hold that must not change."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from fedlaf import __main__ as entry
from fedlaf.experiment import config as configuration
from fedlaf.experiment import pipeline
from fedlaf.experiment.plan import Plan
from fedlaf.report import Report, Watch

SMALL = ["data=digits", "model=small_cnn", "corruption.backdoor.patch=2", "engine=inline",
         "train.rounds=2", "evaluation.curve_rows=20"]  # fmt: skip


class StagesRun(Watch):
    """A watch that notes which stages of a run were run, not taken up."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def stage(self, name: str, rounds: int, clients: int) -> None:
        self.names.append(name)


def composed(*overrides: str) -> DictConfig:
    """The configuration that these overrides compose to, in a test that may have used Hydra before."""
    configuration.register()
    GlobalHydra.instance().clear()
    with initialize_config_module("fedlaf.conf", version_base="1.3"):
        return compose("config", overrides=list(overrides))


def run_plan(plan: Plan, folder: Path) -> tuple[list[str], Report]:
    """The stages that a run of the plan had to run itself, and its report."""
    watch = StagesRun()
    report = pipeline.run(plan, folder, watch)
    return watch.names, report


def run_command(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> dict[str, Any]:
    """The report of `fedlaf` with SMALL and these overrides, run in this process."""
    monkeypatch.setattr(sys, "argv", ["fedlaf", *SMALL, f"hydra.run.dir={folder}", *overrides])
    entry.main()
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def repeatable(report: dict[str, Any]) -> list[Any]:
    """All of a report that is the same in each run: neither seconds nor memory."""
    kept = []
    for request in report["requests"]:
        costs = {
            m: {k: v for k, v in c.items() if not k.endswith(("seconds", "memory"))}
            for m, c in request["costs"].items()
        }
        kept.append((request["models"], costs))
    return [kept, report["curves"]]
