"""The folder of a run: what was there stays, and what an earlier run left does not speak for a later one."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runs import run_command

from fedlaf.client.steps import targets
from fedlaf.report.files import FILES

BRIEF = (
    "data.train_rows=200",
    "data.test_rows=50",
    "clients=3",
    "forget=laf_adam",
    "evaluation.curve_rows=0",
)


@pytest.mark.parametrize("key", ["request.clients=[12]", "train.rouds=3", "data=foo"])
@pytest.mark.parametrize("made_before", ["", "mine/results", "mine/results/run1"])
def test_wrong_input_removes_no_folder_that_it_has_not_made(
    key: str, made_before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / made_before).mkdir(parents=True, exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run_command(monkeypatch, Path("mine/results/run1"), key)
    assert ended.value.code == 2
    assert sorted(tmp_path.rglob("*")) == before
    assert tmp_path.is_dir()


def test_a_rerun_that_fails_leaves_no_report_of_the_run_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_command(monkeypatch, tmp_path, *BRIEF)
    (tmp_path / "notes.txt").write_text("of one's own")

    def broken(*_: object) -> None:
        raise ValueError("out of luck")

    monkeypatch.setattr(targets, "toward", broken)
    with pytest.raises(SystemExit) as ended:
        run_command(monkeypatch, tmp_path, *BRIEF)
    assert ended.value.code == 1
    left = {path.name for path in tmp_path.iterdir()}
    assert {"stages", "notes.txt"} <= left
    assert not left & {*FILES, "page.json"}
