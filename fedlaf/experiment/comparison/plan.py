"""A comparison before it starts: which runs it takes, and what each of them is made with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from fedlaf.core.errors import require, require_count
from fedlaf.experiment.comparison.sweep import Sweep, composed_once
from fedlaf.experiment.config import plain

ORIGINAL = "nothing"
"""The method of the first run of each seed: it trains, retrains and does nothing else."""

Options = dict[str, tuple[str, ...]]
"""Settings or methods: overrides by name."""

LONGEST = 80
"""Characters of a folder's name before its hash."""


@dataclass(frozen=True)
class Run:
    """One job: a method on a seed of a setting. `after` is the folder of the run that it resumes."""

    setting: str
    method: str
    seed: int
    overrides: tuple[str, ...]
    folder: Path
    after: Path | None = None


@dataclass(frozen=True)
class Comparison:
    """What is compared: settings (name: overrides), methods (name: overrides), seeds.

    `default` names the method that the others are paired with, `places` the values of a sweep by the name of
    their method, or of their setting where the swept key is none of the method's.
    """

    name: str
    title: str
    question: str
    settings: Mapping[str, tuple[str, ...]]
    methods: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    folder: Path
    sweep: Sweep | None = None
    places: Mapping[str, float] | None = None
    default: str | None = None

    @classmethod
    def of(cls, config: DictConfig) -> Comparison:
        """From a composed configuration. Raises InvalidValue for what cannot be compared."""
        given = plain(config)
        _check_seeds(given["seeds"])
        shared, of = (*given["scenario"], *given["base"]), tuple(given["of"])
        settings = {name: (*shared, *more) for name, more in (given["over"] or {"": ()}).items()}
        sweep, places = given["sweep"] and Sweep.of(given["sweep"]), None
        if sweep and sweep.of_method:
            require(not given["methods"], "methods", "none beside a sweep of `of`", given["methods"])
            methods, places = sweep.spread(of, next(iter(settings.values())))
        else:
            methods = {name: _keys(name, of, tuple(keys)) for name, keys in given["methods"].items()}
        if sweep and not sweep.of_method:
            require(not given["over"], "over", "none beside a sweep of settings", given["over"])
            settings, places = sweep.spread(shared)
        methods = _chosen(methods, given["only"])
        default = next((name for name, keys in methods.items() if keys == of and len(methods) > 1), None)
        return cls(
            given["name"], given["title"], given["question"], settings, methods, tuple(given["seeds"]),
            Path(given["folder"]), sweep, places, default,
        )  # fmt: skip

    def bases(self) -> list[Run]:
        """The first run of each setting and seed."""
        keys = (f"forget={ORIGINAL}",)
        return [self._run(setting, ORIGINAL, seed, keys) for setting in self.settings for seed in self.seeds]

    def runs(self, base: Run) -> list[Run]:
        """The runs of all methods that resume the training of `base`."""
        return [self._run(base.setting, name, base.seed, keys, base) for name, keys in self.methods.items()]

    def _run(
        self, setting: str, method: str, seed: int, keys: Sequence[str], base: Run | None = None
    ) -> Run:  # fmt: skip
        # A folder is named after what its run is made with: comparisons that share a run make it once.
        shared = self.settings[setting]
        folder = self.folder / "runs" / slug(*shared) / slug(*keys) / f"seed-{seed}"
        return Run(setting, method, seed, (*shared, *keys), folder, base.folder if base else None)


def job(run: Run) -> DictConfig:
    """The run's configuration. Raises one of USER_ERRORS."""
    config = composed_once(run.overrides).copy()
    config.seed = run.seed
    return config


def slug(*keys: str) -> str:
    """A folder's name that needs no quotes anywhere, and is another for other keys."""
    readable = re.sub(r"[^\w.]+", "-", "-".join(keys), flags=re.ASCII).strip("-")
    return f"{readable[:LONGEST]}-{hashlib.sha256(repr(keys).encode()).hexdigest()[:8]}"


def _check_seeds(seeds: Sequence[int]) -> None:
    require(len(seeds) > 0, "seeds", "at least one seed", seeds)
    require(len(set(seeds)) == len(seeds), "seeds", "each seed once", seeds)
    for seed in seeds:
        require_count("seeds", seed, at_least=0)


def _keys(name: str, of: tuple[str, ...], keys: tuple[str, ...]) -> tuple[str, ...]:
    """A method's overrides: from its own choice of a forget option, else from `of`, else from its name."""
    if any(key.startswith("forget=") for key in keys):
        return keys
    return (*(of or (f"forget={name}",)), *keys)


def _chosen(methods: Options, only: Sequence[str] | None) -> Options:
    for name in only or ():
        require(name in methods, "only", f"some of {', '.join(methods)}", name)
    chosen = {name: keys for name, keys in methods.items() if only is None or name in only}
    require(len(chosen) > 0, "methods", "at least one method", methods)
    require(ORIGINAL not in chosen, "methods", f"no {ORIGINAL!r}: it is a row of every table", list(methods))
    return chosen
