"""Progress: what a line says, when plain text has one, and no control codes where nothing can follow them."""

from __future__ import annotations

import io
import logging
import re
import sys

import pytest
from rich.console import Console

from fedlaf.core.cost import Cost
from fedlaf.method.contract import RoundRecord
from fedlaf.report import Job, Lines, StageProgress, display, watching
from fedlaf.report import progress as module


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "monotonic", made)
    return made


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


def round_(number: int, asked: int = 3, failed: int = 0) -> RoundRecord:
    return RoundRecord("p", number, tuple(range(asked)), dict.fromkeys(range(failed), "why"), {}, Cost())


def test_time_left_is_that_of_what_was_made_not_of_what_was_there(clock: Clock) -> None:
    job = Job("runs", 10, "runs", began=clock.now)
    assert job.state() == "0/10 runs"
    job.done, job.kept, clock.now = 4, 2, 160.0  # two took a minute: six more take three
    assert job.state() == "4/10 runs, 3:00 left"
    job.done, clock.now = 10, 160.0 + 3600
    assert job.over
    assert job.state() == "10/10 runs, 1:01:00"
    clock.now += 1000
    assert job.state() == "10/10 runs, 1:01:00"  # it has ended


def test_plain_text_has_a_line_a_stage_and_one_each_half_minute(clock: Clock) -> None:
    stream = io.StringIO()
    watch = StageProgress(Lines(Console(file=stream)))
    watch.stage("train", 4, 10)
    for seconds, failed in ((10, 0), (21, 1), (10, 0)):
        clock.now += seconds
        watch.advance("train", round_(1, failed=failed))
    assert stream.getvalue() == "train: 2/4 rounds, 0:31 left, 3 of 10 clients, 1 failed\n"
    clock.now += 2
    watch.advance("train", round_(4))
    watch.measuring("request-1")
    clock.now += 7
    watch.stage("request-1", 3, 9)  # stopped before its end
    clock.now += 1
    watch.close()
    watch.note("news")
    assert stream.getvalue().splitlines()[1:] == [
        "train: 4/4 rounds, 0:43, 3 of 10 clients",
        "measures of request-1: 0:07",
        "request-1: 0/3 rounds, 0:01, 9 clients",
        "news",
    ]
    with pytest.raises(KeyError):
        watch.advance("a stage that never began", round_(1))


def test_a_terminal_has_a_bar_a_stage_within_its_width(terminal: Terminal) -> None:
    with watching(terminal) as watch:
        watch.stage("train", 2, 12)
        watch.advance("train", round_(1, asked=12))
        watch.advance("train", round_(2, asked=12))
        watch.measuring("request-1")
        watch.note("taken up")
    shown = terminal.getvalue()
    assert "\x1b[" in shown
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)
    lines = plain.replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= 80
    assert any(re.fullmatch(r"train +━+ 2/2 rounds, 0:0\d, 12 of 12 clients *", line) for line in lines)
    assert "taken up" in plain


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("NO_COLOR", "1"), (None, "")])
def test_nothing_but_text_where_no_bars_are_wanted(
    name: str | None, value: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name is not None:
        monkeypatch.setenv(name, value)
    stream = terminal if name is not None else io.StringIO()
    with watching(stream) as watch:
        watch.stage("train", 1, 2)
        watch.advance("train", round_(1, asked=2))
    assert re.fullmatch(r"train: 1/1 rounds, 0:0\d, 2 of 2 clients\n", stream.getvalue())


def test_all_lines_are_in_the_log_too(terminal: Terminal, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fedlaf"), display(terminal) as shown:
        shown.line("news")
        job = Job("train", 1, "rounds")
        shown.begin(job)
        job.done = 1
        shown.update(job)
    assert [record.getMessage()[:17] for record in caplog.records] == ["news", "train: 1/1 rounds"]
    assert sys.stderr is not terminal
