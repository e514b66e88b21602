"""`fedlaf compare`: from the composed configuration to comparison.md, comparison.png and comparison.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from fedlaf import report
from fedlaf.core.errors import RoundFailed
from fedlaf.experiment.comparison.plan import Comparison, job
from fedlaf.experiment.comparison.plot import plot
from fedlaf.experiment.comparison.rows import Row, as_json, rows
from fedlaf.experiment.comparison.runs import Done, Runner, run_all
from fedlaf.experiment.comparison.stream_figures import FIGURES
from fedlaf.experiment.comparison.stream_table import stream_table
from fedlaf.experiment.comparison.sweep_plot import plot_sweep
from fedlaf.experiment.comparison.table import table
from fedlaf.experiment.config import composed, made

USAGE = """fedlaf compare [comparison=NAME] [key=value ...]

Trains once a seed, runs every method from there, and compares all with one retrained model: a table, a
plot and a JSON. Results that exist are not computed again. comparison is one of those in conf/comparison;
study/... are ablations and sweeps of LAF.

fedlaf compare 'seeds=[3,4,5]' 'only=[laf]'                     # of the methods below
fedlaf compare '+methods.brief=["forget=laf","forget.ridge=0.1"]'
fedlaf compare 'base=["engine=inline","data.train_rows=5000"]'   # keys of all jobs
fedlaf compare comparison=study/align_lr 'sweep.values=[1e-4,1e-3]'
fedlaf compare runner=ray runner.address=HOST:6379              # runs are tasks of a Ray cluster
fedlaf -m runner=ray engine=inline forget=laf,scrub seed=0,1    # and so are those of a multirun

What runs as it is asked for here:
"""

READ = (
    "Means over the seeds {seeds} ± the half-width of the 95 % Student-t interval. The mean distance is that "
    "to the model retrained from the same start on the same seed, over all measures in percent; d is a "
    "measure's difference to it in points; JS is the divergence of predictions in bits. Costs are in percent "
    "of retraining's. Bold is the closest of each column."
)
PAIRED = " Against default is the mean distance minus the default's, seed by seed: below 0 is closer."


def compare(overrides: Sequence[str]) -> str:
    """Run what has not been run, write the three files, and return the Markdown.

    Raises one of USER_ERRORS for a wrong configuration, before anything runs, and RoundFailed
    when not one run of a method succeeded.
    """
    config = composed(overrides, "compare")
    comparison, runner = Comparison.of(config), made(config, "runner")
    found = _in_order(comparison, _rows(comparison, runner))
    text = write(comparison, found)
    if all(row.failed for row in found if not row.original):
        first = next(error for row in found for error in row.errors.values())
        raise RoundFailed(f"{comparison.folder / comparison.name}: all runs failed, the first: {first}")
    return text


def usage(overrides: Sequence[str]) -> str:
    """How to ask for a comparison, and what these overrides compose to."""
    return f"{USAGE}\n{OmegaConf.to_yaml(composed(overrides, 'compare'))}"


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


def _rows(comparison: Comparison, runner: Runner) -> list[Row]:
    for base in comparison.bases():
        for run in (base, *comparison.runs(base)):
            job(run)  # a misspelt key stops here
    with report.bars() as progress:

        def say(line: str) -> None:
            progress.console.print(line, soft_wrap=True, highlight=False)

        total = len(comparison.bases()) * (1 + len(comparison.methods))
        bar = progress.add_task(comparison.name, total=total)

        def ended(done: Done) -> None:
            progress.advance(bar)
            name = ", ".join(filter(None, (done.run.setting, done.run.method, f"seed {done.run.seed}")))
            say(f"{name}: {done.error or 'done'}")

        return rows(run_all(comparison.bases(), comparison.runs, runner, ended, say))


def _in_order(comparison: Comparison, found: Sequence[Row]) -> list[Row]:
    """Rows as the configuration names them, whatever ended first."""
    settings, methods = list(comparison.settings), list(comparison.methods)
    return sorted(
        found,
        key=lambda row: (settings.index(row.setting), -1 if row.original else methods.index(row.method)),
    )
