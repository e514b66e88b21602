"""Whole runs in this process, and what their reports hold that must not change."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from safetensors.numpy import load_file

from fedlaf import __main__ as entry
from fedlaf.experiment import config as configuration
from fedlaf.experiment import pipeline
from fedlaf.experiment.plan import Plan
from fedlaf.report import Report, Watch
from fedlaf.simulation import InlineGrid
from support.federations import same_bits

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


@dataclass
class Exchanges:
    """All messages that went to clients of inline grids: the run of a stage ("" for enrolment), the node."""

    stages: list[str] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)

    @classmethod
    @contextmanager
    def recorded(cls) -> Iterator[Exchanges]:
        """What is sent while the context lasts."""
        found, answers = cls(), InlineGrid.answers

        def recording(grid: InlineGrid, messages: list[Message], timeout: float | None) -> Iterator[Message]:
            for message in messages:
                order: Any = message.content.config_records["order"]
                found.stages.append(str(order.get("run", "")))
                found.nodes.append(message.metadata.dst_node_id)
            return answers(grid, messages, timeout)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(InlineGrid, "answers", recording)
            yield found


class Killed(BaseException):
    """The process ends here, as on SIGKILL: nobody catches it, nothing is saved any more."""


def until_killed(plan: Plan, folder: Path, exchange: int) -> bool:
    """Run the plan until the first reply of its `exchange`-th exchange of messages (1: enrolment) has come.

    False where it ends before.
    """
    count, answers = 0, InlineGrid.answers

    def killing(grid: InlineGrid, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        nonlocal count
        count += 1
        for reply in answers(grid, messages, timeout):
            yield reply
            if count == exchange:
                raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(InlineGrid, "answers", killing)
        try:
            pipeline.run(plan, folder, StagesRun())  # type: ignore[arg-type]
        except Killed:
            return True
    return False


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs' folders hold the same models, bit for bit."""

    def models(folder: Path) -> dict[str, Any]:
        paths = sorted((folder / "stages").glob("*.safetensors"))
        return {p.name: load_file(p) for p in paths if p.name.count(".") == 1}

    left, right = models(one), models(other)
    return list(left) == list(right) and all(same_bits(left[name], right[name]) for name in left)
