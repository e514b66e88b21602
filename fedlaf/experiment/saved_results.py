"""Results of requests on disk: a run that goes on need not measure again what it has measured.

Where the models were erased, they are all that is left.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedlaf.core.safe_files import write_text
from fedlaf.report import Projection, RequestResult, RequestView, result_of, result_values
from fedlaf.report.files import finite

RESULT = ".result.json"
"""Ending of the file of a request's result, after its name."""


def save(stages: Path, fingerprint: str, result: RequestResult) -> None:
    """Note what became of a request, and what the page shows of it. Raises OSError."""
    drawn = result.view.projection
    projection = drawn and {"mean": drawn.mean.tolist(), "axes": drawn.axes.tolist(), "shares": drawn.shares}
    view = {"values": result.view.values, "projection": projection}
    noted = {"fingerprint": fingerprint, "result": result_values(result), "view": view}
    write_text(stages / f"{result.name}{RESULT}", json.dumps(finite(noted)))


def load(stages: Path, name: str, fingerprint: str) -> RequestResult | None:
    """What became of a request; None where that was not noted, of other values, or is damaged."""
    path = stages / f"{name}{RESULT}"
    try:
        noted = json.loads(path.read_text())
        if noted["fingerprint"] != fingerprint:
            return None
        return replace(result_of(noted["result"]), view=_view(noted["view"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _view(noted: dict[str, Any]) -> RequestView:
    drawn = noted["projection"]
    if drawn is None:
        return RequestView(noted["values"])
    mean, axes = np.array(drawn["mean"]), np.array(drawn["axes"])
    return RequestView(noted["values"], Projection(mean, axes, tuple(drawn["shares"])))
