"""`fedlaf compare`: from the composed configuration to comparison.md, comparison.png and comparison.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill, shorten
from typing import Any

from omegaconf import OmegaConf

from fedlaf import report
from fedlaf.core.errors import RoundFailed
from fedlaf.core.safe_files import write_text
from fedlaf.experiment.comparison.brief import WIDTH, brief
from fedlaf.experiment.comparison.plan import Comparison, job
from fedlaf.experiment.comparison.plot import plot
from fedlaf.experiment.comparison.progress import RunsProgress
from fedlaf.experiment.comparison.records import write_records
from fedlaf.experiment.comparison.rows import Row, as_json, rows
from fedlaf.experiment.comparison.runs import Done, Runner, run_all
from fedlaf.experiment.comparison.stream_figures import FIGURES
from fedlaf.experiment.comparison.stream_table import stream_table
from fedlaf.experiment.comparison.sweep_plot import plot_sweep
from fedlaf.experiment.comparison.table import table
from fedlaf.experiment.config import SEARCH, composed, made

USAGE = """fedlaf compare [-v] [comparison=NAME] [key=value ...]

Trains once a seed, runs every method from there, and compares all with one
retrained model: a table, a plot, a page. What exists is not computed again.

  fedlaf compare 'seeds=[3,4,5]' 'only=[laf,scrub]'
  fedlaf compare '+methods.mine=["forget=laf","forget.ridge=0.1"]'
  fedlaf compare comparison=study/align_lr 'sweep.values=[1e-4]' jobs=4
  fedlaf compare 'base=["engine=inline","clients=20","tracker=mlflow"]'
  fedlaf compare runner=ray runner.address=HOST:6379    # tasks of a Ray cluster

As asked for here; `fedlaf compare --cfg job` shows every key:
"""

ASKED = "asked.json"
"""File of the overrides that a comparison was called with, written before it begins."""

READ = (
    "Means over the seeds {seeds} ± the half-width of the 95 % Student-t interval. The mean distance is that "
    "to the model retrained from the same start on the same seed, over all measures in percent; d is a "
    "measure's difference to it in points; JS is the divergence of predictions in bits. Costs are in percent "
    "of retraining's. Bold is the closest of each column."
)
LINES = 2
"""Lines of the screen for all methods, or all settings."""
PAIRED = " Against default is the mean distance minus the default's, seed by seed: below 0 is closer."


def compare(overrides: Sequence[str], *, in_brief: bool = False) -> str:
    """Run what has not been run, write the files, and return the Markdown, or what fits one screen.

    Raises one of USER_ERRORS for a wrong configuration, before anything runs, and RoundFailed
    when not one run of a method succeeded.
    """
    config = composed(overrides, "compare")
    config.base = [*(key for key in overrides if key.startswith(SEARCH)), *config.base]
    comparison, runner = Comparison.of(config), made(config, "runner")
    folder = comparison.folder / comparison.name
    for base in comparison.bases():
        for run in (base, *comparison.runs(base)):
            job(run)  # a misspelt key stops here
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / ASKED, json.dumps(list(overrides)) + "\n")
    done = _done(comparison, runner, folder)
    found = _in_order(comparison, rows(done))
    text = write(comparison, found)
    write_records(done, folder)
    if all(row.failed for row in found if not row.original):
        first = next(error for row in found for error in row.errors.values())
        raise RoundFailed(f"{folder}: all runs failed, the first: {first}")
    return brief(comparison, found) if in_brief else text


def overrides_of(folder: Path) -> list[str] | None:
    """What the comparison in a folder was asked for; None where there is none."""
    try:
        found = json.loads((folder / ASKED).read_text())
    except (OSError, ValueError):
        return None
    return [str(key) for key in found] if isinstance(found, list) else None


def usage(overrides: Sequence[str]) -> str:
    """How to ask for a comparison, and what these overrides come to, on one screen."""
    comparison = Comparison.of(composed(overrides, "compare"))
    about = {
        "comparison": comparison.title, "settings": ", ".join(filter(None, comparison.settings)) or "one",
        "methods": ", ".join(comparison.methods), "seeds": ", ".join(map(str, comparison.seeds)),
    }  # fmt: skip
    lines = [shorten(f"{name}: {value}", LINES * WIDTH - 20) for name, value in about.items()]
    return USAGE + "\n".join(fill(line, WIDTH, subsequent_indent="  ") for line in lines)


def shown(overrides: Sequence[str]) -> str:
    """The whole configuration of a comparison, as YAML."""
    return OmegaConf.to_yaml(composed(overrides, "compare"))


def write(comparison: Comparison, found: Sequence[Row]) -> str:
    """Write comparison.md, .png and .json into the comparison's folder; returns the Markdown."""
    folder = comparison.folder / comparison.name
    folder.mkdir(parents=True, exist_ok=True)
    read = READ.format(seeds=", ".join(map(str, comparison.seeds))) + (PAIRED if comparison.default else "")
    parts = [f"# {comparison.title}", *([comparison.question] if comparison.question else []), read]
    for setting in comparison.settings:
        parts += [f"## {setting}"] if len(comparison.settings) > 1 else []
        here = [row for row in found if row.setting == setting]
        parts += [table(here, comparison.default), *stream_table(here)]
    path = folder / "comparison.png"
    if comparison.sweep and comparison.places:
        drawn = plot_sweep(found, comparison.sweep, comparison.places, comparison.default, path)
    else:
        drawn = plot(found, comparison.title, path)
    parts += ["![mean distance to the retrained model](comparison.png)"] if drawn else []
    text = "\n\n".join(parts) + "\n"
    report.replace(folder / "comparison.md", text)
    kept: dict[str, Any] = {
        "title": comparison.title,
        "seeds": comparison.seeds,
        "default": comparison.default,
    }
    kept |= {"question": comparison.question, "rows": as_json(found)}
    kept |= {"figures": {n: t for n, (t, _) in FIGURES.items()}} if any(r.stream for r in found) else {}
    report.replace(folder / "comparison.json", json.dumps(kept, indent=1) + "\n")
    report.replace(folder / "comparison.html", report.comparison_page(kept))
    return f"{text}\n{folder}/comparison.md, .png, .json, .html"


def _done(comparison: Comparison, runner: Runner, folder: Path) -> list[Done]:
    total = len(comparison.bases()) * (1 + len(comparison.methods))
    with report.log_to(folder / report.LOG_FILE) as screen, report.display(screen) as lines:
        progress = RunsProgress(comparison.name, total, runner, lines)
        return run_all(comparison.bases(), comparison.runs, progress, progress.ended, progress.say)


def _in_order(comparison: Comparison, found: Sequence[Row]) -> list[Row]:
    """Rows as the configuration names them, whatever ended first."""
    settings, methods = list(comparison.settings), list(comparison.methods)
    return sorted(
        found,
        key=lambda row: (settings.index(row.setting), -1 if row.original else methods.index(row.method)),
    )
