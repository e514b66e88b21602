"""A stream on a Ray cluster of two nodes: the bits of the inline engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import processes
from support.runs import StagesRun, same_weights
from support.streams import plan_of

from fedlaf.experiment import pipeline

LINES = [
    {"id": "a", "client": 1, "issued": 1},
    {"id": "b", "client": 4, "issued": 2, "scope": "rows", "rows": [3, 5]},
    {"event": "return", "id": "c", "client": 1, "issued": 2, "consent": "asked and given"},
    {"id": "d", "client": 0, "issued": 3, "leaver": "gone"},
]


@pytest.mark.xdist_group("cluster")
def test_a_stream_on_two_nodes_gives_the_bits_of_inline(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, LINES)
    pipeline.run(plan, tmp_path / "inline", StagesRun())  # type: ignore[arg-type]
    done = processes.python(
        "-m", "support.ray_stream", str(tmp_path), str(tmp_path / "requests.jsonl"), cwd=tmp_path,
        **processes.QUIET_RAY,
    )  # fmt: skip
    assert (tmp_path / "cluster" / "report.json").is_file(), done.stderr[-3000:]
    assert same_weights(tmp_path / "cluster", tmp_path / "inline")
    counts = json.loads((tmp_path / "cluster" / "report.json").read_text())["stream"]["counts"]
    assert counts["issued"] == 3
