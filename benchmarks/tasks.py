"""The published tasks in one table: means over the runs of each multirun.

    python -m benchmarks.tasks NAME=FOLDER [NAME=FOLDER ...]

A folder is that of a multirun over seeds (or of a run). For each measure: original / unlearned /
retrained model, and in brackets the mean absolute distance of the last two, followed by that of
retrainings from other seeds where `evaluation.reference_seeds` asked for it. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.summary import MODELS, judged, reports
from fedlaf.report.tables import markdown

SHOWN = {
    "accuracy_retain": "remaining",
    "accuracy_forget": "forget",
    "accuracy_test": "test",
    "accuracy_test_kept": "test, kept classes",
    "attack_success": "ASR",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER")
    rows = [row_of(*text.split("=", 1)) for text in parser.parse_args().folders]
    header = ["task", *SHOWN.values(), "mean distance (original's, yardstick)", "passes %", "seconds %"]
    print(markdown([header, *rows]))


def row_of(name: str, folder: str) -> list[str]:
    """One task's figures, as text."""
    requests = [judged(json.loads(path.read_text())) for path in reports(Path(folder))]
    gaps = [mean(r["models"][m]["gap"] for r in requests) for m in ("unlearned", "original")]
    shares = [
        mean(r["share_of_retraining_percent"][c] for r in requests) for c in ("passes", "client_seconds")
    ]
    cells = [cell(requests, measure) for measure in SHOWN]
    more = "".join(f", {value:.2f}" for value in spread(requests, "gap"))
    return [name, *cells, f"{gaps[0]:.2f} ({gaps[1]:.2f}{more})", *(f"{share:.1f}" for share in shares)]


def cell(requests: list[Mapping[str, Any]], measure: str) -> str:
    """Means of a measure over the models; in brackets its mean absolute distance and the yardstick.

    Nothing where a model has none.
    """
    found = [[r["models"][m].get(measure) for m in MODELS] for r in requests]
    if any(value is None for values in found for value in values):
        return ""
    means = " / ".join(f"{mean(values[i] for values in found):.1f}" for i in range(len(MODELS)))
    apart = [mean(abs(values[1] - values[2]) for values in found), *spread(requests, measure)]
    return f"{means} ({', '.join(f'{value:.1f}' for value in apart)})"


def spread(requests: list[Mapping[str, Any]], measure: str) -> list[float]:
    """The mean yardstick of a measure, in a list; an empty one unless all runs have it."""
    found = [r.get("spread", {}).get(measure) for r in requests]
    return [] if None in found else [mean(found)]


if __name__ == "__main__":
    main()
