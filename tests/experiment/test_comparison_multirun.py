"""A multirun with a runner: a run of each combination, each in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.comparisons import BRIEF, SMALL

from fedlaf import __main__ as entry
from fedlaf.core.errors import InvalidValue
from fedlaf.experiment.comparison.multirun import combinations, multirun


def test_combinations_are_those_of_all_swept_values() -> None:
    assert combinations(["seed=1,2", "a.b=[3,4]", "forget=laf,not", "x=choice(5)"]) == [
        (f"seed={seed}", "a.b=[3,4]", f"forget={method}", "x=5")
        for seed in (1, 2)
        for method in ("laf", "not")
    ]
    assert combinations(["seed=range(0,3)"]) == [("seed=0",), ("seed=1",), ("seed=2",)]
    assert combinations(["data.root='a,b'"]) == [("data.root='a,b'",)]


def test_each_run_has_its_folder_and_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [*SMALL, *BRIEF, "seed=1,2", f"hydra.sweep.dir={tmp_path}", "runner=local", "jobs=1"]
    monkeypatch.setattr("sys.argv", ["fedlaf", "-m", *keys])
    entry.main()
    out = capsys.readouterr().out.splitlines()
    reports = [json.loads((tmp_path / str(n) / "report.json").read_text()) for n in (0, 1)]
    assert [(report["seed"], report["method"]) for report in reports] == [(1, "laf_adam"), (2, "laf_adam")]
    for line, report in zip(out[2:4], reports, strict=True):
        gap = report["requests"][-1]["models"]["unlearned"]["gap"]
        assert f"seed={report['seed']} | {gap:.2f} |" in line
    monkeypatch.setattr("sys.argv", ["fedlaf", "-m", *keys, "request.availability=online,offline"])
    with pytest.raises(SystemExit) as stopped:
        entry.main()
    assert stopped.value.code == 1
    assert "2 of 4 runs failed, the first: " in capsys.readouterr().err


def test_a_wrong_key_stops_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"runner.jobs: expected a whole number"):
        multirun(["runner=local", "jobs=0", f"hydra.sweep.dir={tmp_path}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("cases", "code"), [("0,1,0", 1), ("0", 2)])
def test_a_job_that_fails_does_not_end_the_others(
    cases: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FUKD needs rows on the server; without a runner, Hydra makes the runs one after the other."""
    keys = [*SMALL, "corruption=none", "forget=fukd", f"server_rows={cases}", f"hydra.sweep.dir={tmp_path}"]
    keys.remove("corruption.backdoor.patch=2")
    monkeypatch.setattr("sys.argv", ["fedlaf", "-m", *keys])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == code
    count = len(cases.split(","))
    at_once, listed = capsys.readouterr().err.split(
        f"fedlaf: error: {count - code % 2} of {count} runs failed:"
    )
    reason = "server_rows: expected at least 1 for forget=fukd"
    assert (
        at_once.count(f"fedlaf: error: {reason}")
        == listed.count(f"server_rows=0: {reason}")
        == count - code % 2
    )
    made_reports = [path.parent.name for path in tmp_path.rglob("report.json")]
    assert made_reports == (["1"] if code == 1 else [])
