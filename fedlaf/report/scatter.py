"""Results that scatter over seeds: noticed in a multirun, as soon as three seeds are there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

from fedlaf.method.contract import Finding
from fedlaf.report.intervals import interval
from fedlaf.report.report import Report

ENOUGH = 3
"""Seeds from which on their scatter is judged."""


def compared(report: Report, folder: Path) -> Report:
    """The report with a finding when it and its siblings, the runs of the same multirun that differ
    from it in the seed alone, scatter in their mean distance to the retrained model.
    """
    if report.alternatives or not report.results:
        return report
    gap = report.results[-1].measure("gap", "unlearned")
    if gap is None or isnan(gap):
        return report
    gaps = [gap, *_siblings(report, folder)]
    found = interval(gaps)
    if len(gaps) < ENOUGH or not found.scatters:
        return report
    detail = f"mean distances {', '.join(f'{g:.1f}' for g in gaps)} over {len(gaps)} seeds: no mean says much"
    last = report.results[-1]
    finding = Finding("scatters over seeds", last.name, report.seed, detail)
    return replace(report, results=(*report.results[:-1], replace(last, findings=(*last.findings, finding))))


def _siblings(report: Report, folder: Path) -> list[float]:
    gaps, own = [], json.loads(json.dumps(report.config))
    for path in sorted(folder.parent.glob("*/report.json")):
        other = json.loads(path.read_text())
        if path.parent == folder or not _same_but_seed(other["config"], own):
            continue
        gap = other["requests"][-1]["models"]["unlearned"].get("gap") if other["requests"] else None
        if gap is not None:
            gaps.append(float(gap))
    return gaps


def _same_but_seed(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    left, right = ({k: v for k, v in c.items() if k not in ("seed", "resume")} for c in (one, other))
    return left == right and one["seed"] != other["seed"]
