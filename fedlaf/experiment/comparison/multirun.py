"""`fedlaf -m ... runner=...`: the runs of a multirun in processes or as Ray tasks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from fedlaf import report
from fedlaf.core.errors import RoundFailed
from fedlaf.experiment.comparison.plan import Run, job
from fedlaf.experiment.comparison.progress import RunsProgress
from fedlaf.experiment.comparison.runs import Done, Runner, run_all
from fedlaf.experiment.config import composed, made, register
from fedlaf.experiment.interruption import Interrupted
from fedlaf.report.tables import markdown

OF_RUNNER = ("runner=", "runner.", "jobs=")
SWEEP = "hydra.sweep.dir="


def multirun(overrides: Sequence[str]) -> str:
    """Make a run of each combination of the swept values; returns a table of their distances.

    Raises one of configuration.USER_ERRORS for a wrong configuration, before anything runs, RoundFailed
    when a run failed, and Interrupted.
    """
    own = [key for key in overrides if key.startswith(OF_RUNNER)]
    runner: Runner = made(composed(own, "compare"), "runner")
    asked = [key for key in overrides if key not in own]
    runs = [_run(number, keys, swept(asked)) for number, keys in enumerate(combinations(asked))]
    for run in runs:
        job(run)
    with report.log_to(runs[0].folder.parent / report.LOG_FILE) as screen, report.display(screen) as lines:
        progress = RunsProgress("multirun", len(runs), runner, lines, lambda run: run.setting)
        try:
            done = run_all(runs, lambda _: [], progress, progress.ended, progress.say)
        except Interrupted as stopped:
            others = [key for key in overrides if not key.startswith(SWEEP)]
            command = shlex.join(["fedlaf", "-m", *others, f"{SWEEP}{runs[0].folder.parent}"])
            raise Interrupted(f"{stopped}; go on with: {command}") from stopped
    by_folder = {one.run.folder: one for one in done}
    rows = [_row(by_folder[run.folder]) for run in runs]
    failed = [one for one in done if one.error]
    text = f"{markdown([['', 'mean distance', 'folder'], *rows])}\n"
    if failed:
        first = f"{failed[0].run.setting}: {failed[0].error}"
        raise RoundFailed(f"{len(failed)} of {len(runs)} runs failed, the first: {first}\n{text}")
    return text


def combinations(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Overrides of each run: all combinations of values that are swept, the last key's changing fastest."""
    each = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        swept = override.is_sweep_override()
        values = override.sweep_string_iterator() if swept else []
        keys = [f"{override.get_key_element()}={value}" for value in values]
        each.append(keys or [override.input_line or ""])
    return list(product(*each))


def swept(overrides: Sequence[str]) -> frozenset[str]:
    """Keys that take several values."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return frozenset(override.get_key_element() for override in parsed if override.is_sweep_override())


def title(keys: Sequence[str], of: frozenset[str]) -> str:
    """What tells a run from the others: its values of the swept keys, or all where none is swept."""
    return " ".join([key for key in keys if key.partition("=")[0] in of] or keys)


def _run(number: int, keys: tuple[str, ...], of: frozenset[str]) -> Run:
    config = _with_hydra(keys)
    chosen = config.hydra.runtime.choices["forget"]
    asked = [key for key in keys if not key.startswith("hydra.")]
    others = [key for key in asked if not key.startswith("forget=")]
    folder = Path(config.hydra.sweep.dir) / str(number)
    return Run(title(asked, of), chosen, config.seed, (*others, f"forget={chosen}"), folder)


def _with_hydra(keys: Sequence[str]) -> DictConfig:
    register()
    with initialize_config_module("fedlaf.conf", version_base="1.3"):
        return compose("config", overrides=list(keys), return_hydra_config=True)


def _row(done: Done) -> list[str]:
    models = done.report["requests"][-1]["models"] if done.report and not done.error else {}
    gap = models.get("unlearned", {}).get("gap")
    return [done.run.setting, "" if gap is None else f"{gap:.2f}", done.error or str(done.run.folder)]
