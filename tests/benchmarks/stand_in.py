"""Runs that are not made: what stands in for the subprocesses of a study, and a study for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

from test_study_table import report

from benchmarks import study_plan
from benchmarks.study_kinds import Study, Variant

SMALL = ("data=digits", "model=small_cnn", "corruption.backdoor.patch=2", "engine=inline", "train.rounds=1",
         "clients=3", "evaluation.curve_rows=0")  # fmt: skip
ROUNDS = Study(
    "Rounds",
    "How many rounds?",
    (Variant("as it is"), Variant("three rounds", ("forget.align_rounds=3",))),
    base=SMALL,
)


class Runs:
    """Stands in for subprocess.run: writes the report of the run that it is asked for."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.changed: dict[str, Any] = {}
        self.alone = Lock()
        self.refuse: Callable[[list[str]], str] = lambda overrides: ""
        self.write = True

    def __call__(self, command: list[str], **_: object) -> SimpleNamespace:
        assert command[1:3] == ["-m", "fedlaf"]
        self.commands.append(command)
        overrides, folder = command[3:], Path(command[-1].removeprefix("hydra.run.dir=").strip("'"))
        error = self.refuse(overrides)
        if not error or self.write:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "report.json").write_text(json.dumps(report(**self.config(overrides))))
        return SimpleNamespace(returncode=1 if error else 0, stderr=error)

    def config(self, overrides: list[str]) -> dict[str, Any]:
        """What a report says of its configuration."""
        taken_up = [o for o in overrides if o.startswith("resume=")]
        with self.alone:  # Hydra has one configuration directory at a time
            config = study_plan.values(tuple(o for o in overrides if not o.startswith(("hydra.", "resume="))))
        assert config is not None
        return config | {"resume": taken_up} | self.changed

    def where(self) -> list[str]:
        """The folders that were asked for, in a fixed order."""
        return sorted(c[-1].strip("'").rpartition("runs/")[2] for c in self.commands)
