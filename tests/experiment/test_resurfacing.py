"""Training that goes on from each model: against runs that do the same without being asked to look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.runs import run_command

import fedlaf
from fedlaf.core.errors import InvalidValue
from fedlaf.experiment.resurfacing import distances
from fedlaf.report import Point

BRIEF = ("evaluation.curve_rows=0", "evaluation.resurfacing_rounds=2")


def test_distances_by_hand() -> None:
    """Two measures in percent; JS counts for nothing in a mean of points."""

    def points(*values: tuple[float, float]) -> list[Point]:
        kept = enumerate(values, 1)
        return [
            Point("s", at, 0.0, {"accuracy_test": a, "accuracy_forget": b, "js_test": 9.0})
            for at, (a, b) in kept
        ]

    found = distances({
        "original": points((80.0, 90.0), (82.0, 70.0)), "retrained": points((82.0, 60.0), (84.0, 62.0)),
    })  # fmt: skip
    assert found == {"original": (16.0, 5.0)}


def test_training_goes_on_as_a_run_would_whose_request_came_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked after round 1 of 3: what the run's own training makes of the model afterwards."""
    keys = ("train.rounds=3", "request.round=1", *BRIEF)
    report = run_command(monkeypatch, tmp_path / "run", *keys)
    stages = tmp_path / "run" / "stages"
    onward, own = (load_file(stages / f"{n}.safetensors") for n in ("onward-1-unlearned", "train-from-1"))
    assert all(np.array_equal(onward[name], own[name]) for name in own)
    retrained = load_file(stages / "onward-1-retrained.safetensors")
    again = load_file(stages / "retrain-end.safetensors")
    assert all(np.array_equal(retrained[name], again[name]) for name in again)
    first = report["requests"][0]
    assert {model: len(far) for model, far in first["onward"].items()} == {"original": 2, "unlearned": 2}
    for model, far in first["onward"].items():
        assert first["models"][model]["resurfacing"] == pytest.approx(far[-1])
    assert first["models"]["retrained"]["resurfacing"] == 0
    loaded = fedlaf.load(tmp_path / "run")
    assert loaded.results[0].onward == {model: tuple(far) for model, far in first["onward"].items()}
    assert "just carry on" in (tmp_path / "run" / "report.md").read_text()
    assert "further round" in (tmp_path / "run" / "page.json").read_text()


@pytest.mark.parametrize(("forget", "like"), [("retrain", None), ("nothing", "original")])
def test_a_model_that_is_another_goes_where_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: str, like: str | None
) -> None:
    report = run_command(monkeypatch, tmp_path / "run", f"forget={forget}", *BRIEF)
    (request,) = report["requests"]
    expected = [0.0, 0.0] if like is None else request["onward"][like]
    assert request["onward"]["unlearned"] == pytest.approx(expected)


def test_what_held_the_forgotten_rows_goes_with_erase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_command(monkeypatch, tmp_path / "run", "erase=true", *BRIEF)
    kept = {path.name for path in (tmp_path / "run" / "stages").glob("*.safetensors")}
    assert "onward-1-original.safetensors" not in kept
    assert "request-1.safetensors" in kept


def test_less_than_no_round_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"evaluation\.resurfacing_rounds"):
        fedlaf.run("data=digits", "evaluation.resurfacing_rounds=-1", folder=tmp_path / "run")
