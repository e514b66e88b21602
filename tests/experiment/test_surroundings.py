"""What a run finds around it: a full disk, a folder that cannot be written, no home. One line each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from support.disk import limited_to
from support.processes import ROOT
from support.runs import SMALL, run_command

from fedlaf import __main__ as entry

BRIEF = (*SMALL, "data.train_rows=200", "data.test_rows=50", "clients=3", "forget=fine_tune")


def ended_in_a_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The line, without what comes before it in all of them; lines on the run's progress may precede it."""
    *progress, line = capsys.readouterr().err.splitlines()
    assert not [told for told in progress if "error" in told or "Traceback" in told]
    assert line.startswith("fedlaf: error: ")
    return line.removeprefix("fedlaf: error: ")


def arrays(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "stages").iterdir() if path.is_file()}


@pytest.mark.parametrize(("most", "name"), [(2**12, "stages/train.rounds/"), (2**17, "report.html")])
def test_a_full_disk_is_a_line_and_what_was_there_stays(
    most: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(monkeypatch, tmp_path, *BRIEF[len(SMALL) :], "evaluation.curve_rows=0")
    before = arrays(tmp_path)
    assert max(map(len, before.values())) > 2**12
    capsys.readouterr()
    with limited_to(most), pytest.raises(SystemExit) as ended:
        run_command(monkeypatch, tmp_path, *BRIEF[len(SMALL) :], "evaluation.curve_rows=0", "seed=1")
    assert ended.value.code == 1
    assert ended_in_a_line(capsys).startswith(f"File too large: {tmp_path / name}")
    assert not list(tmp_path.rglob("*.part"))
    stages = tmp_path / "stages"
    assert all(load_file(path) for path in stages.glob("*.safetensors"))
    if name.startswith("stages"):
        assert arrays(tmp_path) == before  # the earlier run's, which can be taken up
    else:
        assert (tmp_path / "report.json").is_file()
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("keys", [(), ("hydra.run.dir=/dev/null/run",), ("-m", "seed=0,1")], ids=str)
def test_a_folder_that_cannot_be_written_is_a_line(
    keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody can write to /proc, not even who may do anything."""
    monkeypatch.chdir("/proc")
    monkeypatch.setattr(sys, "argv", ["fedlaf", *keys, *BRIEF])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 1
    line = ended_in_a_line(capsys)
    assert any(line.endswith(name) for name in ("outputs", "multirun", "/dev/null/run"))


def test_a_comparison_in_a_folder_that_cannot_be_written_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir("/proc")
    base = ",".join(f"'{key}'" for key in BRIEF)
    keys = [f"base=[{base}]", "scenario=[]", "seeds=[0]", "only=[scrub]", "jobs=1", "folder=compared"]
    monkeypatch.setattr(sys, "argv", ["fedlaf", "compare", *keys])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 1
    assert "compared" in capsys.readouterr().err.splitlines()[-1]


def test_without_a_home_where_data_have_a_place(tmp_path: Path) -> None:
    """With an id that no user has: nobody knows where its home is."""
    (tmp_path / "data").mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "VIRTUAL_ENV") if name in os.environ}
    own = {"FEDLAF_DATA": str(tmp_path / "data"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    code = "import pwd; pwd.getpwuid = {}.__getitem__; from fedlaf.__main__ import main; main()"

    def fedlaf(*keys: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *keys], cwd=tmp_path, capture_output=True, text=True, timeout=120,
            env={**kept, **own}, check=False,
        )  # fmt: skip

    done = fedlaf(*BRIEF, "evaluation.curve_rows=0", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr
    assert (tmp_path / "run" / "report.json").is_file()
    refused = fedlaf(*BRIEF, "data=mnist", "~data.train_rows", "~data.test_rows")
    assert refused.returncode == 2
    assert refused.stderr.startswith("fedlaf: error: data")
    assert refused.stderr.count("\n") == 1
