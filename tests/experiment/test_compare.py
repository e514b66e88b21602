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
METHODS = (
    '+methods.brief=["forget=laf","forget.align_rounds=1"]',
    '+methods.other=["forget=laf_tuned_losses"]',
)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    return ["comparison=class_removal", SMALL, *METHODS, "only=[brief,other]", "seeds=[7]", "jobs=1",
            f"folder={tmp_path}"]  # fmt: skip


def test_each_seed_is_trained_once_and_a_second_call_computes_nothing(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = compare(arguments)
    folder = tmp_path / "class_removal"
    assert (folder / "comparison.md").read_text() in text
    assert (folder / "comparison.png").is_file()
    kept = json.loads((folder / "comparison.json").read_text())
    assert [row["method"] for row in kept["rows"]] == ["nothing", "brief", "other"]
    assert all(row["gap"]["mean"] is not None for row in kept["rows"])
    trained = {p.read_bytes() for p in folder.rglob("stages/train.safetensors")}
    assert len(trained) == 1
    reports = {p: p.stat().st_mtime_ns for p in folder.rglob("report.json")}
    assert len(reports) == 3
    assert compare(arguments) == text
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("report.json")} == reports


def test_a_misspelt_key_of_a_method_stops_before_anything_runs(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = [*arguments, 'methods.laf=["forget.align_ruonds=1"]', "only=[laf]"]
    monkeypatch.setattr("sys.argv", ["fedlaf", "compare", *wrong])
    with pytest.raises(SystemExit) as stopped:
        entry.main()
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "no such key 'align_ruonds'; did you mean align_rounds?" in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())
    with pytest.raises(InvalidValue):
        compare([*arguments, "seeds=[]"])
