"""A stream in the report: its tables, the timeline, the page's data, and reading it back."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedlaf.core.cost import Cost
from fedlaf.core.request_record import RequestStatus
from fedlaf.core.stream import Arrival, BatchOutcome, RequestOutcome, Segment
from fedlaf.evaluation.persistence import Sighting
from fedlaf.evaluation.stream_costs import Retraining, TrainingRound
from fedlaf.report import Report, load, write
from fedlaf.report.console import tell
from fedlaf.report.page import page_data
from fedlaf.report.stream import Prefix, Quality, StreamResult
from fedlaf.report.stream_console import show_stream
from fedlaf.report.stream_tables import counts_line, request_rows, section
from fedlaf.report.timeline import plot_timeline

STAGE = ("request-1", "laf", False)
OUTCOMES = (
    RequestOutcome(
        Arrival("a", 2, 1, deadline=4), RequestStatus.COMPLETED, 40, 2, 2, 5, 2, started=2, started_round=2,
        service=3, stage="request-1", method="laf", cost={"client_seconds": 1.5, "bytes_up": 3e6},
    ),
    RequestOutcome(
        Arrival("b", 3, 2, leaver="offline", offline=(3, 5)), RequestStatus.REFUSED, 40, 6, 3, 7, 4,
        reason="laf: needs | its client",
    ),
)  # fmt: skip
STREAM = StreamResult(
    OUTCOMES,
    (BatchOutcome(*STAGE, RequestStatus.COMPLETED, ("a",), 40, 2, 2, 5, 2, {"forward_passes": 30.0}),),
    (Segment("train", "training", 0, 0, 2), Segment("request-1", "service", 2, 2, 3)),
    4, 7,
    (Prefix(2, "end", 4, 7, 80.0, 82.0, 1.5, None, {"worst": -3.0, "deviation": 1.0, "below": 50.0},
            {3: (80.0, 83.0)}),),
    {"a": (Sighting(2, 5, 60.0), Sighting(4, 7, 75.0, 70.0))},
    (Quality(1, 50.0, "train"), Quality(5, 55.0, "request-1")),
    {"training": {1: 80.0, 3: 160.0}, "service": {3: 30.0}},
    (80,), (1,), Retraining([TrainingRound(Cost(forward_passes=100), 120, True)] * 4), {6: 1}, {6: "asked"},
).values()  # fmt: skip


def report(**more: Any) -> Report:
    return Report(0, "laf", (), (), Cost(), {"total": 1.0}, {"fedlaf": "0"}, {}, stream=STREAM, **more)


def test_values_are_plain_and_hold_the_times_of_each_request() -> None:
    assert json.loads(json.dumps(STREAM, allow_nan=False)) == STREAM
    first, second = STREAM["requests"]
    assert (first["wait"], first["time"], first["missed_deadline"]) == (0, 3, True)
    assert (second["time"], second["exposure"]) == (None, 1)
    assert STREAM["backlog"] == [0, 0, 1, 1, 1, 0, 1, 0]
    assert STREAM["resurfaced"] == {"a": 5.0}
    assert STREAM["break_even"]["passes"]["once"] is None


def test_a_request_has_a_row_with_what_became_of_it() -> None:
    _, first, second = request_rows(STREAM)
    assert first == ["a", "client 1", "2", "0", "3", "3", "3", "served", "laf", "missed its deadline"]
    assert second[-3:] == ["refused", "", "offline; offline in rounds 3 to 4; laf: needs \\| its client"]


def test_the_markdown_and_the_console_say_what_happened() -> None:
    assert counts_line(STREAM).startswith("2 issued, 1 served, 1 refused, 1 missed their deadline;")
    text = "\n\n".join(section(STREAM, picture=True))
    for part in (
        "time to forget",
        "| a | 60.0 | 75.0 | 70.0 | 5.0 |",
        "-3.0",
        "Client 6 is client 1",
        "never",
    ):
        assert part in text, part
    console = Console(width=140, record=True, file=io.StringIO())
    show_stream(STREAM, console)
    assert "resurfaced" in console.export_text()


def test_a_run_leaves_its_timeline_and_is_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(report(), tmp_path)
    assert (tmp_path / "timeline.png").stat().st_size > 10_000
    assert (
        "![requests and model quality over elapsed rounds](timeline.png)"
        in (tmp_path / "report.md").read_text()
    )
    assert load(tmp_path).stream == STREAM
    assert page_data(report())["stream"] == STREAM
    tell(report(), tmp_path)
    assert "2 issued" in capsys.readouterr().out


def test_no_requests_no_timeline(tmp_path: Path) -> None:
    assert not plot_timeline({}, tmp_path / "timeline.png")
    assert not (tmp_path / "timeline.png").exists()
