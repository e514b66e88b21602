"""The end of a run fits a screen of 80 x 24: the verdict first, the decisive rows, where the rest is."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from pathlib import Path

import pytest
from support.pages import a_report

from fedlaf.core.cost import Cost
from fedlaf.evaluation import Evaluation, Group, Measure, Sense, Verdict
from fedlaf.evaluation.catalogue import CATALOGUE
from fedlaf.evaluation.verdict import Word
from fedlaf.method.answers import Answers, ClientFailures
from fedlaf.method.contract import Finding
from fedlaf.report import Report, RequestResult, tell, tell_briefly
from fedlaf.report.summary import decisive

MODELS = ("original", "unlearned", "retrained")
MINE = {f"mine_{i}": Measure(f"a measure {i}", Group.INSIDE, Sense.TRACE) for i in range(5)}
ALL = {**CATALOGUE, **MINE}
LARGE = 1234567.0


def everything(**values: float) -> RequestResult:
    """A request with all measures there are, as wide as they become."""
    names = [name for name in ALL if name != "gap"]
    models = {m: Evaluation({**dict.fromkeys(names, 88.8888), **values}, catalogue=ALL) for m in MODELS}
    verdict = Verdict(
        ("too little forgotten",), "", dict.fromkeys(ALL, Word.TOO_LITTLE), dict.fromkeys(ALL, 88.8888),
        dict.fromkeys(ALL, 1.0), rho=9.0,
    )  # fmt: skip
    cost = Cost(gradient_passes=LARGE, client_seconds=LARGE, rounds=500, labels_read=LARGE)
    return RequestResult(
        "request-1", 16, (0,), 1000, (0,), models, {"unlearned": cost, "retrained": cost},
        findings=tuple(Finding("scatters", "align", i, "too much") for i in range(9)),
        spread=dict.fromkeys(ALL, 88.8888), verdict=verdict,
    )  # fmt: skip


def printed(report: Report, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    tell(report, folder)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_the_verdict_comes_first_and_the_page_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.html").touch()
    lines = printed(a_report(), tmp_path, capsys)
    assert lines[0].startswith("The original model is too weak")
    assert "measures lie within the noise" in " ".join(lines[:4])
    assert str(tmp_path / "report.html") in lines[-1]
    assert "-v" in lines[-1]
    titles = [line.strip().partition("  ")[0] for line in lines]
    first = titles.index("mean distance (points)")
    assert titles[first + 1 : first + 5] == [
        "accuracy, remaining rows (%)", "accuracy, forgotten rows (%)", "accuracy, test rows (%)",
        "backdoor success (%)",
    ]  # fmt: skip
    costs = [titles.index(name) for name in ("client passes over samples", "client seconds", "rounds")]
    assert first < min(costs)
    assert len(lines) <= 24


def test_even_with_all_there_is_the_table_has_18_lines_of_80_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(replace(a_report(), results=(everything(),)), tmp_path, capsys)
    head = next(i for i, line in enumerate(lines) if "original" in line.split())
    end = next(i for i, line in enumerate(lines) if line.startswith("noticed"))
    assert end - head <= 18
    assert lines[head].split() == [*MODELS, "distance", "verdict"]
    assert max(map(len, lines[head:end])) <= 80
    assert "…" not in "".join(lines)
    assert all(line.endswith("too little") for line in lines[head + 2 : head + 4])
    assert lines[end : end + 4] == [*(f"noticed: scatters (align, round {i}): too much" if i else
                                      "noticed: scatters (align): too much" for i in range(3)),
                                    "... and 6 more"]  # fmt: skip


def test_of_attacks_and_divergences_the_farthest_in_distances_between_retrainings_is_shown() -> None:
    served = everything(accuracy_test_kept=nan, accuracy_test_removed=nan)
    assert served.verdict is not None
    distances = {**dict.fromkeys(ALL, 1.0), "mia_loss_auc": 3.0, "mia_trees_auc": 2.0, "js_test": 0.2}
    limits = {**dict.fromkeys(ALL, 1.0), "mia_trees_auc": 0.1, "js_test": 0.0001}
    judged = replace(served, verdict=replace(served.verdict, distances=distances, limits=limits))
    names = decisive(judged)
    assert "mia_trees_auc" in names
    assert "js_test" in names
    assert not {"mia_loss_auc", "js_forget", "js_retain"} & set(names)
    assert all(ALL[name].decides for name in names if name != "gap")
    few = Evaluation({"accuracy_test": 1.0, "mine_0": 2.0, "tow": 1.0}, catalogue=ALL)
    assert decisive(replace(served, models={"unlearned": few})) == ["gap", "accuracy_test", "mine_0"]


def test_earlier_requests_failures_and_a_stop_have_a_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = everything()
    before = replace(served, name="request-0", stopped=True)
    answers = {"train": Answers(9, 1, {4: ClientFailures(3, 1, "no answer in time")})}
    report = replace(a_report(), results=(before, served), answers=answers)
    lines = printed(report, tmp_path, capsys)
    assert any(line.startswith("request-0: stopped") for line in lines)
    assert "failed: train: client 4 failed in 1 of 3 rounds (no answer in time)" in lines
    tell_briefly(report, tmp_path)
    told = capsys.readouterr().out.splitlines()
    assert told[1] == f"request-1: too little forgotten; mean distance 0.0 points; {tmp_path}"
    lines = printed(replace(report, results=(before,)), tmp_path, capsys)
    assert lines[0].startswith("The request was not served: the method stopped")
    assert printed(replace(report, results=(), answers={}), tmp_path, capsys)[0].startswith("All measures: ")


def test_without_reference_seeds_it_says_how_to_get_a_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = Verdict(("no reference seeds",), "", {"gap": Word.UNKNOWN}, {"gap": 0.6})
    served = replace(everything(), verdict=unknown, spread={})
    text = " ".join(printed(replace(a_report(), results=(served,)), tmp_path, capsys))
    assert "0.6 points from the retrained one" in text
    assert "evaluation.reference_seeds=1 retrains one." in text
