"""`fedlaf compare`: from the composed configuration to comparison.md, comparison.png and comparison.json."""

from __future__ import annotations

import json
from collections.abc import Sequence

from omegaconf import OmegaConf

from fedlaf import report
from fedlaf.experiment.comparison.plan import Comparison, job
from fedlaf.experiment.comparison.plot import plot
from fedlaf.experiment.comparison.rows import Row, as_json, rows, table
from fedlaf.experiment.comparison.runs import Done, run_all
from fedlaf.experiment.config import composed

USAGE = """fedlaf compare [comparison=NAME] [key=value ...]

Trains once a seed, runs every method from there, and compares all with one retrained model: a table, a
plot and a JSON. Results that exist are not computed again. comparison is one of those in conf/comparison.

fedlaf compare 'seeds=[3,4,5]' 'only=[laf]'                     # of the methods below
fedlaf compare '+methods.brief=["forget=laf","forget.ridge=0.1"]'
fedlaf compare 'base=["engine=inline","data.train_rows=5000"]'   # keys of all jobs

What runs as it is asked for here:
"""

READ = (
    "Means over the seeds {seeds} ± the half-width of the 95 % Student-t interval. The mean distance is that "
    "to the model retrained from the same start on the same seed, over all measures in percent; d is a "
    "measure's difference to it in points; JS is the divergence of predictions in bits. Costs are in percent "
    "of retraining's. Bold is the closest of each column."
)


def compare(overrides: Sequence[str]) -> str:
    """Run what has not been run, write the three files, and return the Markdown.

    Raises one of configuration.USER_ERRORS for a wrong configuration, before anything runs.
    """
    comparison = Comparison.of(composed(overrides, "compare"))
    for base in comparison.bases():
        for run in (base, *comparison.runs(base)):
            job(run)  # a misspelt key stops here
    with report.bars() as progress:
        bar = progress.add_task(comparison.name, total=_total(comparison))

        def ended(done: Done) -> None:
            progress.advance(bar)
            told = done.error or "done"
            progress.console.print(f"{done.run.setting}, {done.run.method}, seed {done.run.seed}: {told}")

        found = rows(run_all(comparison, ended))
    return write(comparison, _in_order(comparison, found))


def usage(overrides: Sequence[str]) -> str:
    """How to ask for a comparison, and what these overrides compose to."""
    return f"{USAGE}\n{OmegaConf.to_yaml(composed(overrides, 'compare'))}"


def write(comparison: Comparison, found: Sequence[Row]) -> str:
    """Write comparison.md, .png and .json into the comparison's folder; returns the Markdown."""
    folder = comparison.folder
    folder.mkdir(parents=True, exist_ok=True)
    drawn = plot(found, comparison.title, folder / "comparison.png")
    parts = [f"# {comparison.title}", READ.format(seeds=", ".join(map(str, comparison.seeds)))]
    for setting in comparison.settings:
        parts += [f"## {setting}"] if len(comparison.settings) > 1 else []
        parts.append(table([row for row in found if row.setting == setting]))
    parts += ["![mean distance to the retrained model over client passes](comparison.png)"] if drawn else []
    text = "\n\n".join(parts) + "\n"
    report.replace(folder / "comparison.md", text)
    kept = {"title": comparison.title, "seeds": comparison.seeds, "rows": as_json(found)}
    report.replace(folder / "comparison.json", json.dumps(kept, indent=1) + "\n")
    return f"{text}\n{folder}/comparison.md, .png, .json"


def _in_order(comparison: Comparison, found: Sequence[Row]) -> list[Row]:
    """Rows as the configuration names them, whatever ended first."""
    settings, methods = list(comparison.settings), list(comparison.methods)
    return sorted(
        found,
        key=lambda row: (settings.index(row.setting), -1 if row.original else methods.index(row.method)),
    )


def _total(comparison: Comparison) -> int:
    return len(comparison.bases()) * (1 + len(comparison.methods))
