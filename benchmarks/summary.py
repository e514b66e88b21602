"""One table of several finished runs, held against what a showcase must reach.

    python -m benchmarks.summary FOLDER [FOLDER ...]

A folder is that of a run, or of a multirun (then all of its runs are taken). For each run: the
measures of original, unlearned and retrained model, the distances between the last two, the share
of retraining's client passes and the seconds it took. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from fedlaf.report.tables import markdown

SHOWN = {
    "accuracy_test": "test",
    "accuracy_forget": "forget",
    "backdoor_success": "backdoor",
}
MODELS = ("original", "unlearned", "retrained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    rows = [row_of(path) for folder in parser.parse_args().folders for path in reports(folder)]
    header = ["seed", *(f"{short}: orig / unl / retr" for short in SHOWN.values())]
    header += [*(f"d {short}" for short in SHOWN.values()), "mean distance", "original's"]
    header += ["passes %", "seconds"]
    average = ["mean", "", "", "", *(f"{mean(abs(row[i]) for row in rows):.2f}" for i in range(4, 7))]
    average += [f"{mean(row[i] for row in rows):.2f}" for i in (7, 8)]
    average += [f"{mean(row[i] for row in rows):.1f}" for i in (9, 10)]
    print(markdown([header, *(shown(row) for row in rows), average]))


def reports(folder: Path) -> list[Path]:
    """The reports of a run, or of the runs below a multirun's folder, in order."""
    if (folder / "report.json").is_file():
        return [folder / "report.json"]
    found = sorted(folder.glob("*/report.json"), key=lambda path: path.parent.name)
    if not found:
        raise SystemExit(f"{folder}: no report.json here or one level below")
    return found


def judged(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The last request of a report that has a retrained model."""
    served: list[Mapping[str, Any]] = [
        r for r in report["requests"] if r["clients"] and "retrained" in r["models"]
    ]
    return served[-1]


def row_of(path: Path) -> list[Any]:
    """The figures of a report's last request with a retrained reference."""
    report = json.loads(path.read_text())
    request = judged(report)
    models = request["models"]
    nan = float("nan")
    values = {m: [models[m].get(name, nan) for name in SHOWN] for m in MODELS}
    apart = [u - r for u, r in zip(values["unlearned"], values["retrained"], strict=True)]
    triples = [" / ".join(f"{values[m][i]:.1f}" for m in MODELS) for i in range(len(SHOWN))]
    gaps = [models["unlearned"]["gap"], models["original"]["gap"]]
    share = request["share_of_retraining_percent"]["passes"]
    return [report["seed"], *triples, *apart, *gaps, share, report["seconds"]["total"]]


def shown(row: list[Any]) -> list[str]:
    """A row as text: distances with a sign, then the mean ones, passes and seconds."""
    apart, gaps, rest = row[4:7], row[7:9], row[9:]
    numbers = [f"{v:+.1f}" for v in apart] + [f"{v:.2f}" for v in gaps] + [f"{v:.1f}" for v in rest]
    return [str(row[0]), *row[1:4], *numbers]


if __name__ == "__main__":
    main()
