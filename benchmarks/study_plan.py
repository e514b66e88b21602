"""From a study to its runs: variants with the default marked, and for each seed a base and their jobs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from benchmarks.study_kinds import Study, Sweep, Variant
from fedlaf.experiment import config as configuration
from fedlaf.experiment.config import composed
from fedlaf.experiment.plan import FEDERATION

Values = Mapping[str, Any]

TRAINING = (*FEDERATION, "train", "requests")
"""What a base run is for depends on these sections alone."""

CHEAPEST = (
    "forget.represent_rounds=1",
    "forget.warmup_steps=0",
    "forget.align_rounds=1",
    "forget.align.steps=1",
)
"""A base run has to serve its request too; nobody looks at how."""

LONGEST = 100
"""Characters of a folder's name."""


@dataclass(frozen=True)
class Job:
    """A run to be: its folder, its overrides, and what they compose to (None when they do not).

    A report counts as this job's when `sections` of its configuration (None is all) are the same.
    """

    folder: Path
    overrides: tuple[str, ...]
    config: Values | None
    sections: tuple[str, ...] | None = None

    def made(self, config: Values) -> bool:
        """Whether a report with that configuration is this job's."""
        if self.config is None:
            return False
        names = self.sections or ({*config, *self.config} - {"resume"})
        return all(config.get(name) == self.config.get(name) for name in names)


@dataclass(frozen=True)
class Plan:
    """A study with what the command line adds: `extra` overrides, and the folder of all studies."""

    name: str
    study: Study
    folder: Path
    extra: tuple[str, ...] = ()

    @property
    def training(self) -> tuple[str, ...]:
        """Overrides of the base run."""
        return (*self.study.base, *(o for o in self.extra if not _of_method(o)))

    @property
    def overrides(self) -> tuple[str, ...]:
        """Overrides that all variants share."""
        return (*self.training, *self.study.method, *(o for o in self.extra if _of_method(o)))

    def variants(self) -> list[tuple[Variant, bool]]:
        """All variants, each with whether it is the default; one more when none of them is."""
        config = composed(self.overrides)
        default = _plain(config)
        sweep = self.study.sweep
        variants = list(self.study.variants if sweep is None else _swept(sweep, config))
        marked = [(v, values((*self.overrides, *v.overrides)) == default) for v in variants]
        return marked if any(mark for _, mark in marked) else [(Variant("as configured"), True), *marked]

    def base(self, seed: int) -> Job:
        """The run that trains the original and the retrained model."""
        overrides = (*self.training, *CHEAPEST, f"seed={seed}")
        folder = self.folder / "base" / slug(*self.training) / f"seed-{seed}"
        return Job(folder, overrides, values(overrides), TRAINING)

    def job(self, variant: Variant, default: bool, seed: int) -> Job:
        """The run of a variant; studies with the same base and method share that of the default."""
        added = () if default else variant.overrides
        shared = self.folder / "default" / slug(*self.overrides)
        folder = shared if default else self.folder / self.name / slug(variant.label)
        overrides = (*self.overrides, *added, f"seed={seed}")
        return Job(folder / f"seed-{seed}", overrides, values(overrides))


def values(overrides: Sequence[str]) -> dict[str, Any] | None:
    """The configuration as a report holds it; None when the overrides do not compose."""
    try:
        return _plain(composed(overrides))
    except configuration.USER_ERRORS:
        return None


def slug(*texts: str) -> str:
    """A folder's name that needs no quotes anywhere; what is too long for one ends in a hash."""
    name = "-".join(re.sub(r"[^\w.]+", "-", text, flags=re.ASCII).strip("-") for text in texts)
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}-{hashlib.sha256(repr(texts).encode()).hexdigest()[:8]}"


def shown(value: float) -> str:
    """A swept value: rates as 3e-4, anything else in full."""
    small = 0 < value < 0.01
    return np.format_float_scientific(value, trim="-", exp_digits=1) if small else f"{value:g}"


def _plain(config: DictConfig) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(configuration.plain(config)))
    return plain


def _swept(sweep: Sweep, config: DictConfig) -> list[Variant]:
    default = OmegaConf.select(config, sweep.key)
    number = isinstance(default, int | float) and not isinstance(default, bool)
    places = sorted({*sweep.values, *([default] if number else [])})
    one = Variant("")
    return [
        replace(one, label=f"{sweep.symbol} {shown(x)}", overrides=(f"{sweep.key}={x}",), x=x) for x in places
    ]


def _of_method(override: str) -> bool:
    return override.lstrip("+~").startswith("forget")
