"""A study's command: runs that are made once, failures that are shown, a table that adds up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import pytest
from stand_in import ROUNDS, SMALL, Runs

from benchmarks import study, study_plan, study_runs
from benchmarks.studies import STUDIES
from benchmarks.study_kinds import Study, Sweep
from benchmarks.study_plan import slug

BRIEF = ("forget.represent_rounds=1", "forget.warmup_steps=2", "forget.align.steps=2",
         "forget.represent.most_rows=20")  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def composed_once() -> Iterator[None]:
    """Compositions are slow, and here always the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_plan, "composed", cache(study_plan.composed))
        yield


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(study_runs, "subprocess", SimpleNamespace(run=made))
    monkeypatch.setitem(STUDIES, "rounds", ROUNDS)
    return made


def start(folder: Path, *arguments: str, name: str = "rounds", seeds: str = "0,1") -> str:
    """The command; returns the Markdown that it wrote."""
    where = ["--folder", str(folder / "runs"), "--docs", str(folder / "docs")]
    study.main([name, "--seeds", seeds, *where, *arguments])
    return (folder / "docs" / f"{name}.md").read_text()


BASE = slug(*SMALL)
EXPECTED = [f"base/{BASE}/seed-0", f"default/{BASE}/seed-0", "rounds/three-rounds/seed-0"]


def test_finished_runs_are_not_made_again(runs: Runs, tmp_path: Path) -> None:
    first = start(tmp_path, seeds="0")
    assert runs.where() == EXPECTED
    base, *others = sorted(runs.commands, key=lambda c: c[-1])
    assert not any(o.startswith("resume=") for o in base)
    for command in others:
        assert f"resume='{tmp_path / 'runs' / EXPECTED[0]}'" in command
    assert start(tmp_path, seeds="0") == first
    assert len(runs.commands) == 3
    start(tmp_path, seeds="0,1")  # one more seed: only its runs
    assert len(runs.commands) == 6


def test_a_run_of_another_configuration_is_made_again(runs: Runs, tmp_path: Path) -> None:
    start(tmp_path, seeds="0")
    stale = tmp_path / "runs" / EXPECTED[2] / "report.json"
    left = json.loads(stale.read_text())
    left["config"]["forget"]["forget_share"] = 0.123  # as if a default had changed since
    stale.write_text(json.dumps(left))
    start(tmp_path, seeds="0")
    assert runs.where().count(EXPECTED[2]) == 2
    assert len(runs.commands) == 4
    start(tmp_path, "forget.cohort=2", seeds="0")  # the same base serves another method
    assert len(runs.commands) == 6


def test_a_run_cut_short_is_made_again(runs: Runs, tmp_path: Path) -> None:
    start(tmp_path, seeds="0")
    path = tmp_path / "runs" / EXPECTED[1] / "report.json"
    left = json.loads(path.read_text())
    path.unlink()

    def interrupted(overrides: list[str]) -> str:
        raise KeyboardInterrupt

    runs.refuse = interrupted
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, seeds="0")
    # Its report may still come, but nobody has seen how that run ended.
    path.write_text(json.dumps(left))
    runs.refuse = lambda overrides: ""
    start(tmp_path, seeds="0")
    assert runs.where() == sorted([*EXPECTED, EXPECTED[1], EXPECTED[1]])


def test_a_configuration_that_changes_under_the_study_is_noticed(runs: Runs, tmp_path: Path) -> None:
    runs.changed = {"timeout": 7.0}
    with pytest.raises(SystemExit) as ended:
        start(tmp_path, seeds="0")
    assert ended.value.code == 1
    text = (tmp_path / "docs" / "rounds.md").read_text()
    assert text.count("failed: conf/ was changed while the study ran") == 2


@pytest.mark.parametrize("stopped", [False, True], ids=["no report", "stopped by a diagnostic"])
def test_a_variant_that_fails_is_shown_and_stops_nothing(runs: Runs, tmp_path: Path, stopped: bool) -> None:
    lines = "a warning\nfedlaf: error: request-1 | went the wrong way\n\n"
    runs.refuse = lambda overrides: lines if "forget.align_rounds=3" in overrides else ""
    runs.write = stopped
    text = start(tmp_path)
    (row,) = (line for line in text.splitlines() if line.startswith("| three rounds"))
    assert row == r"| three rounds |  |  |  |  |  |  | failed: request-1 \| went the wrong way |"
    assert "**as it is (default)** | 2.00 ± 0.00 |" in text
    assert (tmp_path / "docs" / "rounds.png").is_file()
    # What was stopped with a report is finished; what left none is tried again.
    assert start(tmp_path) == text
    assert len(runs.commands) == (6 if stopped else 8)


def test_one_seed_that_fails_leaves_the_others(runs: Runs, tmp_path: Path) -> None:
    failing = ("forget.align_rounds=3", "seed=1")
    runs.refuse = lambda overrides: "boom" if set(failing) <= set(overrides) else ""
    text = start(tmp_path, seeds="0,1,2")
    (row,) = (line for line in text.splitlines() if line.startswith("| three rounds"))
    assert row.startswith("| three rounds | 2.00 ± 0.00 | +0.00 ± 0.00 |")
    assert row.endswith("| failed on seed 1: boom |")


def test_a_base_run_that_fails_fails_its_seed(runs: Runs, tmp_path: Path) -> None:
    runs.refuse = lambda overrides: "" if any("resume" in o for o in overrides) else "no data"
    runs.write = False
    with pytest.raises(SystemExit) as ended:
        start(tmp_path)
    assert ended.value.code == 1
    assert [w.split("/")[0] for w in runs.where()] == ["base", "base"]
    text = (tmp_path / "docs" / "rounds.md").read_text()
    assert text.count("failed: its base run: no data") == 2
    assert ".png" not in text
    runs.write = True  # a base run that was stopped over its request has trained what is needed
    assert "2.00 ± 0.00" in start(tmp_path)


def test_all_studies_in_turn(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = replace(ROUNDS, method=("forget.no_such_key=1",))
    found = {"lost": lost, "rounds": ROUNDS, "again": replace(ROUNDS, title="Again")}
    monkeypatch.setattr(study, "STUDIES", found)
    where = ["--folder", str(tmp_path / "runs"), "--docs", str(tmp_path / "docs")]
    with pytest.raises(SystemExit) as ended:
        study.main(["all", "--seeds", "0", *where])
    assert ended.value.code == 2  # one cannot be made, and the others are
    told = capsys.readouterr()
    assert "no_such_key" in told.err
    assert [line for line in told.out.splitlines() if line.endswith(")")] == [
        "Rounds (rounds)",
        "Again (again)",
    ]
    assert {path.stem for path in (tmp_path / "docs").iterdir()} == {"rounds", "again"}
    assert len(runs.commands) == 4  # base and default are shared


def test_words_below_the_marker_are_kept(runs: Runs, tmp_path: Path) -> None:
    text = start(tmp_path)
    assert text.endswith("<!-- words -->\n")
    assert text.startswith("# Rounds\n\nHow many rounds?\n\n")
    assert "\npython -m benchmarks.study rounds --seeds 0,1\n" in text
    path = tmp_path / "docs" / "rounds.md"
    path.write_text(text.replace("Rounds", "Old") + "\nMore is not better.\n\n<!-- words --> twice\n")
    assert start(tmp_path) == text + "\nMore is not better.\n\n<!-- words --> twice\n"
    assert "'corruption.backdoor.clients=[1,2]'" in start(tmp_path, "corruption.backdoor.clients=[1,2]")


def test_a_wrong_override_ends_in_one_line(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        start(tmp_path, "train.rouds=3")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "study: error: train.rouds: no such key 'rouds'; did you mean rounds?\n"


@pytest.mark.parametrize("own", [False, True], ids=["one reference", "a reference for each value"])
def test_a_sweep_has_its_plot_and_doing_nothing_once_or_at_each_value(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    sweep = Sweep("forget.represent.latent", (2, 8, 32), "Z", "latent dimensions", log=True)
    monkeypatch.setitem(STUDIES, "z", Study("Z", "Z?", sweep=sweep, base=SMALL, own_reference=own))
    runs.refuse = lambda overrides: "boom" if "forget.represent.latent=32" in overrides else ""
    text = start(tmp_path, name="z", seeds="0")
    assert text.count("| original model (doing nothing)") == (2 if own else 1)  # none where LAF failed
    assert ("doing nothing), Z 8 |" in text) is own
    assert "**Z 8 (default)**" in text
    assert "![" in text
    height, width, _ = matplotlib.image.imread(tmp_path / "docs" / "z.png").shape
    assert (width, height > 400) == (1200, True)


def test_a_whole_study_in_brief(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With real runs: a base, and a variant that takes up what the base has trained."""
    monkeypatch.setitem(STUDIES, "rounds", replace(ROUNDS, variants=ROUNDS.variants[:1]))
    called: list[list[str]] = []
    real = subprocess.run

    def counted(command: list[str], **more: Any) -> Any:
        called.append(command)
        return real(command, **more)

    monkeypatch.setattr(study_runs, "subprocess", SimpleNamespace(run=counted))
    text = start(tmp_path, *BRIEF, seeds="0")
    assert len(called) == 2
    places = (EXPECTED[0], f"default/{slug(*SMALL, *BRIEF)}/seed-0")
    stages = [tmp_path / "runs" / where / "stages" for where in places]
    for name in ("train", "retrain-1"):
        one, other = (json.loads((stage / f"{name}.json").read_text())["cost"] for stage in stages)
        assert one["client_seconds"] == other["client_seconds"] > 0  # another training takes another time
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0] for row in rows[2:]] == [
        "| original model (doing nothing)", "| **as it is (default)**"
    ]  # fmt: skip
    assert "failed" not in text
    assert start(tmp_path, *BRIEF, seeds="0") == text
    assert len(called) == 2
