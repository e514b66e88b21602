"""A request that cannot be right: the report is written, the model is the old one, exit code 1."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from fedlaf import __main__ as entry

DIVERGING = [
    "data=digits", "model=small_cnn", "corruption.backdoor.patch=2", "engine=inline", "train.rounds=2",
    "forget=laf_adam", "forget.represent.density=vae", "forget.represent_rounds=8", "forget.represent.lr=1e6",
    "evaluation.curve_rows=0",
]  # fmt: skip


def test_a_stopped_request_is_reported_and_leaves_the_model_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fedlaf", *DIVERGING, f"hydra.run.dir={tmp_path}"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 1
    told = capsys.readouterr()
    *_, line = told.err.splitlines()
    assert told.err.count("error") == 1
    assert "request-1 stopped" in line
    assert "diverged" in line
    assert "The request was not served" in told.out
    (request,) = json.loads((tmp_path / "report.json").read_text())["requests"]
    assert request["stopped"]
    assert request["findings"][-1]["fatal"]
    assert set(request["models"]) == {"original", "unlearned"}
    assert request["models"]["unlearned"]["accuracy_test"] == request["models"]["original"]["accuracy_test"]
    assert "not served" in (tmp_path / "report.md").read_text()
    # The trained model is kept; nothing passes for an unlearned one.
    assert load_file(tmp_path / "stages" / "train.safetensors")
    assert not (tmp_path / "stages" / "request-1.json").exists()
