"""A comparison from end to end: one training a seed, and nothing that exists is computed again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedlaf import __main__ as entry
from fedlaf.core.errors import InvalidValue
from fedlaf.experiment.comparison import compare

SMALL = (
    'scenario=["data=digits","data.train_rows=200","model=small_cnn","corruption.backdoor.patch=2",'
    '"clients=3","train.rounds=1"]'
)
BRIEF = ('of=["forget=fine_tune"]', "sweep.key=forget.rounds", "sweep.values=[1]")


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    return ["comparison=study/align_rounds", SMALL, *BRIEF, "seeds=[7]", "jobs=1",
            f"folder={tmp_path}"]  # fmt: skip


def test_a_study_trains_once_a_seed_and_a_second_call_computes_nothing(
    arguments: list[str], tmp_path: Path
) -> None:
    text = compare(arguments)
    folder = tmp_path / "study" / "align_rounds"
    assert (folder / "comparison.md").read_text() in text
    assert "Does it matter when alignment stops?" in text
    assert (folder / "comparison.png").is_file()
    kept = json.loads((folder / "comparison.json").read_text())
    assert [row["method"] for row in kept["rows"]] == ["nothing", "rounds 1", "rounds 2"]
    assert kept["default"] == "rounds 2"
    assert all(row["gap"]["mean"] is not None for row in kept["rows"])
    trained = {p.read_bytes() for p in tmp_path.rglob("stages/train.safetensors")}
    assert len(trained) == 1
    costs = {json.loads(p.read_text())["cost"]["client_seconds"] for p in tmp_path.rglob("stages/train.json")}
    assert len(costs) == 1  # another training takes another time
    reports = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("report.json")}
    assert len(reports) == 3
    assert compare(arguments) == text
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("report.json")} == reports


def test_nothing_but_failures_exits_with_1_and_one_success_with_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = """+methods.lost=["forget=fukd"]"""  # the server has no rows
    common = ["comparison=class_removal", SMALL, lost, "seeds=[7]", "jobs=1", f"folder={tmp_path}"]
    monkeypatch.setattr("sys.argv", ["fedlaf", "compare", *common, "only=[lost]"])
    with pytest.raises(SystemExit) as stopped:
        entry.main()
    assert stopped.value.code == 1
    err = capsys.readouterr().err
    assert "all runs failed, the first: " in err
    assert (
        "failed: server_rows: expected at least 1" in (tmp_path / "class_removal/comparison.md").read_text()
    )
    monkeypatch.setattr("sys.argv", ["fedlaf", "compare", *common, "only=[lost,not]"])
    entry.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines[:-1])) <= 80
    assert "1 failed, the first: lost, seed 7: server_rows: expected at least 1" in "\n".join(lines)
    monkeypatch.setattr("sys.argv", ["fedlaf", "compare", "-v", *common, "only=[lost,not]"])
    entry.main()
    assert "| lost |" in capsys.readouterr().out


def test_a_misspelt_key_of_a_method_stops_before_anything_runs(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = ["comparison=backdoor", *arguments[1:2], f"folder={tmp_path}", "only=[laf_adam]",
             'methods.laf_adam=["forget.align_ruonds=1"]']  # fmt: skip
    monkeypatch.setattr("sys.argv", ["fedlaf", "compare", *wrong])
    with pytest.raises(SystemExit) as stopped:
        entry.main()
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "no such key 'align_ruonds'; did you mean align_rounds?" in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())
    with pytest.raises(InvalidValue):
        compare([*arguments[:-3], "seeds=[]"])
