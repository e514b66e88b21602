"""A comparison before it starts: which runs it takes, and what each of them is made with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fedlaf.core.errors import require, require_count
from fedlaf.experiment.config import composed, plain

ORIGINAL = "nothing"
"""The method of the first run of each seed: it trains, retrains and does nothing else."""


@dataclass(frozen=True)
class Run:
    """One job: a method on a seed of a setting. `after` is the run whose training it takes up."""

    setting: str
    method: str
    seed: int
    overrides: tuple[str, ...]
    folder: Path
    after: Path | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """All overrides of the job."""
        return (*self.overrides, f"seed={self.seed}")


@dataclass(frozen=True)
class Comparison:
    """What is compared: settings (name: overrides), methods (name: overrides), seeds."""

    name: str
    title: str
    settings: Mapping[str, tuple[str, ...]]
    methods: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    jobs: int
    folder: Path

    @classmethod
    def of(cls, config: DictConfig) -> Comparison:
        """From a composed configuration. Raises InvalidValue for what cannot be compared."""
        given = plain(config)
        require_count("jobs", given["jobs"])
        seeds = given["seeds"]
        require(len(seeds) > 0, "seeds", "at least one seed", seeds)
        require(len(set(seeds)) == len(seeds), "seeds", "each seed once", seeds)
        for seed in seeds:
            require_count("seeds", seed, at_least=0)
        shared = (*given["scenario"], *given["base"])
        settings = {name: (*shared, *more) for name, more in given["over"].items()}
        require(len(settings) > 0, "over", "at least one setting", given["over"])
        methods = _methods(given["methods"], given["only"])
        folder = Path(given["folder"]) / given["name"]
        return cls(
            given["name"], given["title"], settings, methods, tuple(seeds), given["jobs"], folder
        )  # fmt: skip

    def bases(self) -> list[Run]:
        """The first run of each setting and seed."""
        return [
            Run(setting, ORIGINAL, seed, (*keys, f"forget={ORIGINAL}"), self._folder(setting, ORIGINAL, seed))
            for setting, keys in self.settings.items()
            for seed in self.seeds
        ]

    def runs(self, base: Run) -> list[Run]:
        """The runs of all methods that take up the training of `base`."""
        shared = self.settings[base.setting]
        return [
            Run(
                base.setting, method, base.seed, (*shared, *keys),
                self._folder(base.setting, method, base.seed), base.folder,
            )
            for method, keys in self.methods.items()
        ]  # fmt: skip

    def _folder(self, setting: str, method: str, seed: int) -> Path:
        return self.folder / slug(setting) / slug(method) / f"seed-{seed}"


def job(run: Run) -> DictConfig:
    """The run's configuration. Raises one of configuration.USER_ERRORS."""
    return composed(run.keys)


def finished(run: Run, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The report that an earlier comparison left in the run's folder, if it is of the same configuration."""
    try:
        report: dict[str, Any] = json.loads((run.folder / "report.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    same = json.loads(json.dumps({**config, "resume": None})) == {**report["config"], "resume": None}
    return report if same else None


def slug(text: str) -> str:
    """A folder's name that needs no quotes anywhere."""
    return re.sub(r"[^\w.]+", "-", text, flags=re.ASCII).strip("-").lower() or "all"


def _methods(given: Mapping[str, Sequence[str]], only: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    for name in only or ():
        require(name in given, "only", f"some of {', '.join(given)}", name)
    chosen = {name: keys for name, keys in given.items() if only is None or name in only}
    require(len(chosen) > 0, "methods", "at least one method", given)
    require(ORIGINAL not in chosen, "methods", f"no {ORIGINAL!r}: it is a row of every table", list(given))
    found = {}
    for name, keys in chosen.items():
        named = any(key.startswith("forget=") for key in keys)
        found[name] = tuple(keys) if named else (f"forget={name}", *keys)
    return found
