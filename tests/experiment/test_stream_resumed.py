"""A run over a stream that is killed at any moment and goes on ends with the bits of one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runs import StagesRun, same_weights, until_killed
from support.streams import plan_of

from fedlaf.experiment import pipeline
from fedlaf.experiment.ledger import verify

LINES = [
    {"id": "a", "client": 1, "issued": 1},
    {"id": "b", "client": 4, "issued": 1, "scope": "rows", "rows": [3, 5]},
    {"event": "return", "id": "c", "client": 1, "issued": 2, "consent": "asked and given"},
    {"id": "d", "client": 6, "issued": 3},
]
"""A client withdraws, comes back as client 6, and withdraws again: two identities on one node."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    pipeline.run(plan_of(folder, LINES), folder / "run", StagesRun())  # type: ignore[arg-type]
    return folder / "run"


@pytest.mark.parametrize("exchange", [2, 4, 6, 8, 10, 12, 13, 14])
def test_it_goes_on_after_a_kill(exchange: int, whole: Path, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, LINES)
    assert until_killed(plan, tmp_path / "run", exchange)
    report = pipeline.run(plan, tmp_path / "run", StagesRun(), go_on=True)  # type: ignore[arg-type]
    assert same_weights(tmp_path / "run", whole)
    assert report.stream["counts"]["issued"] == 3
    traces = [(folder / "stream" / "trace.jsonl").read_bytes() for folder in (tmp_path / "run", whole)]
    assert traces[0] == traces[1]
    assert verify(tmp_path / "run").fault == ""
