"""An ablation or sensitivity study in one command: its runs, a table and a plot.

    python -m benchmarks.study NAME|all [--seeds 0,1,2] [--jobs 2] [key=value ...]
    python -m benchmarks.study --list

Finished runs are kept under --folder and not run again while their configuration is the same
(changed code is not noticed: delete the folder then). The table and the plot go to --docs; whatever
stands below the line `<!-- words -->` of the Markdown file is kept.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from benchmarks.studies import STUDIES
from benchmarks.study_kinds import Variant
from benchmarks.study_plan import Job, Plan
from benchmarks.study_runs import Done, run_all
from benchmarks.study_table import Result, result, table, words
from fedlaf.experiment import config as configuration

MARKER = "<!-- words -->"
ALL = "all"


def main(arguments: list[str] | None = None) -> None:
    """The command: exit code 2 for a wrong configuration, 1 when no run of a study succeeded."""
    asked = _parser().parse_intermixed_args(arguments)
    if asked.list or asked.name is None:
        print("\n".join(f"{name:18} {study.select_clients}" for name, study in STUDIES.items()))
        return
    if asked.name not in (ALL, *STUDIES):
        raise SystemExit(f"no study {asked.name!r}; there are {', '.join(STUDIES)}, and {ALL}")
    names = list(STUDIES) if asked.name == ALL else [asked.name]
    code = max([made(name, asked) for name in names])
    if code:
        raise SystemExit(code)


def made(name: str, asked: argparse.Namespace) -> int:
    """Make one study and print its table; returns the exit code."""
    plan = Plan(name, STUDIES[name], asked.folder, tuple(asked.overrides))
    try:
        results = measured(plan, asked.seeds, asked.jobs)
    except configuration.USER_ERRORS as error:
        print(f"study: error: {configuration.explained(error)}", file=sys.stderr)
        return 2
    print(f"{plan.study.title} ({name})\n\n{write(plan, asked.seeds, results, asked.docs)}\n")
    return int(all(r.failed for r in results))


def measured(plan: Plan, seeds: list[int], parallel: int) -> list[Result]:
    """Run what has not been run, and take the figures: the original model's, then each variant's."""
    variants = plan.variants()
    bases = {seed: plan.base(seed) for seed in seeds}
    jobs: list[tuple[Job, Job]] = [
        (bases[seed], plan.job(variant, default, seed)) for variant, default in variants for seed in seeds
    ]
    done = iter(run_all(jobs, parallel))
    runs = [{seed: next(done) for seed in seeds} for _ in variants]
    found = [
        result(v.label, by_seed, x=v.x, default=default)
        for (v, default), by_seed in zip(variants, runs, strict=True)
    ]
    return [*originals(plan, [v for v, _ in variants], runs), *found]


def originals(plan: Plan, variants: list[Variant], runs: list[dict[int, Done]]) -> list[Result]:
    """The row of doing nothing: one, or one a variant where each has its own retrained model."""
    name = "original model (doing nothing)"
    if not plan.study.own_reference:
        by_seed = {seed: run for one in runs for seed, run in one.items() if run.report and not run.error}
        return [result(name, by_seed, "original")]
    good = [{seed: run for seed, run in one.items() if not run.error} for one in runs]
    pairs = zip(variants, good, strict=True)
    return [result(f"{name}, {v.label}", one, "original", x=v.x) for v, one in pairs if one]


def write(plan: Plan, seeds: list[int], results: list[Result], docs: Path) -> str:
    """Write the Markdown file and its plot; returns the table."""
    from benchmarks.study_plot import plot

    docs.mkdir(parents=True, exist_ok=True)
    path, study, paired = docs / f"{plan.name}.md", plan.study, not plan.study.own_reference
    shown = table(results, paired=paired)
    parts = [f"# {study.title}", study.select_clients, f"```sh\n{command(plan, seeds)}\n```", shown]
    parts.append(words(results, seeds, paired=paired))
    if plot(study, results, path.with_suffix(".png")):
        parts.append(f"![mean distance and signed differences to the retrained model]({plan.name}.png)")
    kept = path.read_text().partition(MARKER)[2] if path.is_file() else ""
    path.write_text("\n\n".join([*parts, MARKER]) + (kept or "\n"))
    return shown


def command(plan: Plan, seeds: list[int]) -> str:
    """What to type for the same figures; where files go is left out."""
    given = ["python", "-m", "benchmarks.study", plan.name, "--seeds", ",".join(map(str, seeds))]
    return shlex.join([*given, *plan.extra])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="a study of --list, or all of them in turn")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for all runs of the study")
    parser.add_argument("--seeds", type=_seeds, default=[0, 1, 2], metavar="0,1,2")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--folder", type=Path, default=Path("outputs/studies"), help="of the runs")
    parser.add_argument("--docs", type=Path, default=Path("docs/studies"), help="of the table and plot")
    parser.add_argument("--list", action="store_true", help="name the studies and what they ask")
    return parser


def _seeds(text: str) -> list[int]:
    return list(dict.fromkeys(int(seed) for seed in text.split(",")))


if __name__ == "__main__":
    main()
