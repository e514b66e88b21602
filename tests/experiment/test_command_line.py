"""The command line: help on one screen, words that are completed, and what -v changes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from support.runs import SMALL, composed

from fedlaf import __main__ as entry
from fedlaf.experiment import commands

ROOT = Path(__file__).parents[2]


def said(words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What `fedlaf` prints for these words."""
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["fedlaf", *shlex.split(words)])
    with suppress(SystemExit):  # Hydra's help ends the process
        entry.main()
    return "".join(capsys.readouterr())


@pytest.mark.parametrize("command", ["", "compare", "board"])
def test_help_fits_a_screen(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag in ("--help", "-h"):
        lines = said(f"{command} {flag}", monkeypatch, capsys).rstrip().splitlines()
        assert 5 <= len(lines) <= 24
        assert max(map(len, lines)) <= 80


def test_help_shows_five_commands_that_are_real(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said("--help", monkeypatch, capsys).splitlines()
    found = [line.strip().split("  ")[0] for line in lines if line.startswith("  fedlaf")]
    commands = [shlex.split(line)[1:] for line in found]
    assert len(commands) == 5
    for words in commands:
        if words[:1] == ["compare"]:
            assert f"seeds: {words[1][7:-1].replace(',', ', ')}" in said(
                f"{shlex.join(words)} --help", monkeypatch, capsys
            )
        elif words[:1] != ["board"]:
            keys = [word.partition(",")[0] for word in words if word != "-m"]
            assert composed(*keys).forget._target_.startswith("fedlaf.strategies.")
    text = "\n".join(lines)
    config = composed()
    groups = text.partition("Groups (GROUP=OPTION):")[2].partition(".")[0].split()
    assert {group for group in groups if group != "experiment"} <= set(config)


def test_the_options_of_a_group_and_all_keys_are_shown_as_the_help_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = "tracker: expected one of mlflow, none, tensorboard, wandb, got '?'"
    assert expected in said("'tracker=?'", monkeypatch, capsys)
    assert "rounds: 16" in said("--cfg job -p train", monkeypatch, capsys)
    assert "jobs: 7" in said("compare --cfg job jobs=7", monkeypatch, capsys)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fedlaf bo", {"board"}),
        ("fedlaf comp", {"compare", "comparison"}),
        ("fedlaf forget=scr", {"forget=scrub"}),
        ("fedlaf -v -m model=cn", {"model=cnn", "model=cnn_large"}),
        ("fedlaf engine=inline seed=1 data=di", {"data=digits"}),
        ("fedlaf train.fit.optim", {"train.fit.optimizer="}),
        ("fedlaf compare comparison=back", {"comparison=backdoor"}),
        ("fedlaf compare comparison=backdoor job", {"jobs="}),
        ("fedlaf board out", set()),  # the shell completes folders
        (f"fedlaf --config-dir {ROOT}/examples/conf tracker=c", {"tracker=csv"}),
    ],
)
def test_words_are_completed(
    line: str, expected: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert set(said("-sc query=bash", monkeypatch, capsys).split()) == expected


def test_bash_completes_as_the_documentation_says(tmp_path: Path) -> None:
    """Through a console script, with what `fedlaf -sc install=bash` prints."""
    script = tmp_path / "fedlaf"
    script.write_text(f"#!{sys.executable}\nfrom fedlaf.__main__ import main\nmain()\n")
    script.chmod(0o755)
    typed = 'COMP_WORDS=({}); COMP_CWORD={}; COMP_LINE="{}"; hydra_bash_completion; echo "${{COMPREPLY[@]}}"'
    asked = ["fedlaf tracker=ten", "fedlaf compare comparison=wro"]
    lines = [typed.format(line, len(line.split()) - 1, line) for line in asked]
    text = "\n".join(['eval "$(fedlaf -sc install=bash)"', *lines, "complete -p fedlaf"])
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", text], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True,
        timeout=120,
    )  # fmt: skip
    *found, rule = done.stdout.splitlines()
    assert found == ["tracker=tensorboard", "comparison=wrong_labels"]
    assert rule.endswith("-F hydra_bash_completion fedlaf")


def test_a_run_ends_on_one_screen_and_with_v_in_all_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.join([*SMALL, "train.rounds=1", "evaluation.curve_rows=0", "forget=nothing"])
    shown = said(f"{words} hydra.run.dir={tmp_path / 'a'}", monkeypatch, capsys)
    screen = shown.partition("train: ")[0].splitlines()  # stderr comes after it here
    assert len(screen) <= 24
    assert max(len(line.rstrip()) for line in screen[:-1]) <= 80
    assert f"{tmp_path / 'a'}/report.html" in screen[-1]
    log = (tmp_path / "a" / "run.log").read_text()
    assert "fedlaf: train: 1/1 rounds, " in log
    more = f"resume={tmp_path / 'a'} hydra.run.dir={tmp_path / 'b'}"
    every = said(f"-v {words} {more}", monkeypatch, capsys)
    assert "peak memory, server (MB)" in every
    assert len(every.splitlines()) > 24


def test_a_multirun_has_a_line_as_each_run_begins_and_one_as_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [*SMALL, "train.rounds=1", "evaluation.curve_rows=0", "forget=nothing", "seed=3,4"]
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["fedlaf", "-m", *keys, f"hydra.sweep.dir={tmp_path}"])
    entry.main()
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("multirun: ")]
    assert [line.split(", ")[0] for line in lines] == [f"multirun: {n}/2 runs" for n in range(3)]
    assert lines[0].endswith("now seed=3")
    assert lines[1].endswith("left, now seed=4")
    ended = shown.out.splitlines()
    assert [line.rpartition("; ")[2] for line in ended] == [str(tmp_path / str(n)) for n in range(2)]
    assert all("mean distance" in line for line in ended)


def test_compare_takes_a_folder_of_ones_own_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "comparison").mkdir(parents=True)
    (tmp_path / "conf" / "forget").mkdir()
    (tmp_path / "conf" / "comparison" / "mine.yaml").write_text(
        f"# @package _global_\nname: mine\ntitle: Mine\nscenario: {json.dumps(SMALL)}\nbase: []\n"
        "methods: {as_i_like: []}\nseeds: [1]\n"
    )
    (tmp_path / "conf" / "forget" / "as_i_like.yaml").write_text(
        "_target_: fedlaf.strategies.laf.Laf\nridge: 0.5\nrule: {min_rows: 3}\n"
    )
    monkeypatch.chdir(tmp_path)
    words = "compare --config-dir conf comparison=mine folder=out jobs=1"
    assert "as_i_like" in said(words, monkeypatch, capsys)
    (run,) = (tmp_path / "out" / "runs").glob("*/forget-as_i_like*/seed-1")
    assert json.loads((run / "report.json").read_text())["config"]["forget"]["ridge"] == 0.5
    assert "a folder of configuration" in said("compare --config-dir none", monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--config-dir a compare jobs=1", "compare --config-dir a jobs=1"),
        ("--config-dir=a -cd b compare jobs=1", "compare --config-dir=a -cd b jobs=1"),
        ("--config-dir compare data=mine", "--config-dir compare data=mine"),
        ("--config-dir a data=mine compare", "--config-dir a data=mine compare"),
        ("compare jobs=1", "compare jobs=1"),
        ("--config-dir", "--config-dir"),
        ("", ""),
    ],
)
def test_a_folder_of_configuration_may_stand_before_the_command(words: str, expected: str) -> None:
    assert commands.command_first(words.split()) == expected.split()
