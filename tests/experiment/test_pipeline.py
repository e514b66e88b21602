"""The whole, end to end: the shipped main job in brief, its numbers, its files, its schedule."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import repeatable, run_command

from fedlaf.client.steps import targets


@pytest.mark.xdist_group("ray")
def test_the_shipped_main_job_in_brief(tmp_path: Path) -> None:
    """The console script with the defaults (Ray, the Fashion-MNIST sample), only fewer rows and rounds."""
    done = subprocess.run(
        [sys.executable, "-m", "fedlaf", "experiment=smoke", f"hydra.run.dir={tmp_path}/out"],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = [line.partition(":")[0] for line in done.stderr.splitlines()]
    # A line a stage, no bars, no warnings, where there is no terminal.
    assert names == ["train", "request-1", "retrain-1", "measures of request-1"]
    for word in ("original", "unlearned", "retrained", "backdoor success", "client passes"):
        assert word in done.stdout
    left = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    stages = {f"stages/{s}.{e}" for s in ("train", "request-1", "retrain-1") for e in ("json", "safetensors")}
    seen = {f"stages/request-1-{model}.predictions.safetensors" for model in ("original", "retrained")}
    stages |= {f"stages/{s}.curve.safetensors" for s in ("train", "request-1", "retrain-1")}
    shown = {"report.json", "report.md", "curves.png", "metrics.jsonl", "run.log", "report.html", "page.json"}
    shown |= {"run.json", "withdrawn.json", "ledger.jsonl", "ledger.key", "stages/request-1.result.json"}
    assert left == shown | stages | seen
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (request,) = report["requests"]
    assert request["withdrawn"] == [0]
    assert request["rows"] == 200
    assert request["costs"]["retrained"]["gradient_passes"] == 3 * 1800
    assert request["costs"]["unlearned"]["labels_read"] == 0
    models = request["models"]
    assert models["retrained"]["js_test"] == models["retrained"]["gap"] == 0
    assert models["unlearned"]["gap"] > 0
    assert models["original"]["accuracy_test"] > 30  # three times chance after three rounds
    assert request["answers"]["failed"] == 0
    stages_seen = {point["stage"] for point in report["curves"]}
    assert stages_seen == {"train", "request-1", "retrain-1"}


def test_same_seed_same_numbers_another_seed_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, again, other = (
        run_command(monkeypatch, tmp_path / name, f"seed={seed}")
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert repeatable(first) == repeatable(again)
    assert repeatable(first) != repeatable(other)
    weights = [(tmp_path / n / "stages" / "request-1.safetensors").read_bytes() for n in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_finished_stages_are_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_command(monkeypatch, tmp_path / "a")
    resumed = run_command(monkeypatch, tmp_path / "b", f"resume={tmp_path / 'a'}")
    assert repeatable(first) == repeatable(resumed)
    assert resumed["seconds"]["train"] < first["seconds"]["train"]
    # Another way of forgetting takes up the training, but not the forgetting.
    other = run_command(monkeypatch, tmp_path / "c", f"resume={tmp_path / 'a'}", "forget.strength=0.5")
    stage = [(tmp_path / n / "stages" / "train.safetensors").read_bytes() for n in "ac"]
    assert stage[0] == stage[1]
    (before,), (after,) = first["requests"], other["requests"]
    assert before["models"]["original"] == after["models"]["original"]
    assert before["models"]["unlearned"] != after["models"]["unlearned"]


def test_requests_are_served_while_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "{_target_: fedlaf.data.RemoveSamples, clients: [2], share: 0.5, round: 1}"
    withdraws = "{_target_: fedlaf.data.WithdrawClients, clients: [0], round: 2}"
    class_ = "{_target_: fedlaf.data.RemoveClasses, classes: [3], round: 3}"
    report = run_command(
        monkeypatch, tmp_path / "a", "train.rounds=4", f"requests=[{withdraws},{class_},{rows}]"
    )  # fmt: skip
    first, second, third, end = report["requests"]
    assert [r["round"] for r in report["requests"]] == [1, 2, 3, 4]
    assert (first["clients"], first["withdrawn"]) == ([2], [])
    assert (second["clients"], second["withdrawn"]) == ([0], [0])
    assert 0 not in third["clients"]  # who has left is not asked again
    assert end["clients"] == []
    assert set(end["models"]) == {"unlearned", "retrained"}
    # Each reference is retrained as long as the model it is held against.
    kept = 1438 - first["rows"]
    assert first["costs"]["retrained"]["gradient_passes"] == kept
    assert second["costs"]["retrained"]["gradient_passes"] == 2 * (kept - second["rows"])
    left = kept - second["rows"] - third["rows"]
    assert third["costs"]["retrained"]["gradient_passes"] == 3 * left
    # Training after the last request: one round over what is left.
    trained = 1438 + kept + (kept - second["rows"]) + left
    assert report["training"]["gradient_passes"] == trained


def test_only_the_last_reference_is_made_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "{_target_: fedlaf.data.RemoveSamples, clients: [2], share: 0.5, round: 1}"
    withdraws = "{_target_: fedlaf.data.WithdrawClients, clients: [0]}"
    report = run_command(
        monkeypatch, tmp_path / "a", "evaluation.reference=last", f"requests=[{rows},{withdraws}]"
    )
    first, second = report["requests"]
    assert "retrained" not in first["models"]
    assert "retrained" in second["models"]


def test_a_failed_run_says_so_and_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    def broken(*_: object) -> None:
        raise ValueError("out of luck")

    monkeypatch.setattr(targets, "toward", broken)
    with pytest.raises(SystemExit) as ended:
        run_command(monkeypatch, tmp_path / "a", "forget=laf_adam")
    assert ended.value.code == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "rounds, " not in line]
    assert error.startswith("fedlaf: error: request-1, warmup round 1: 1 clients asked, 0 answered")
    assert "ValueError: out of luck" in error
    assert (tmp_path / "a" / "stages" / "train.safetensors").is_file()
    assert not (tmp_path / "a" / "report.json").exists()
    monkeypatch.undo()
    resumed = run_command(monkeypatch, tmp_path / "b", f"resume={tmp_path / 'a'}")
    assert resumed["requests"]
