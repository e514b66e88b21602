"""Finished stages: a run takes up exactly what it would make again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.federations import same_bits
from support.runs import composed, run_plan

from fedlaf.client.steps import training
from fedlaf.experiment.plan import prepare
from fedlaf.report import Point, Report

pytestmark = pytest.mark.xdist_group("stages")  # its first run is made once
BASE = ("data=digits", "data.train_rows=200", "data.test_rows=50", "model=small_cnn", "clients=4",
        "corruption.backdoor.patch=2", "engine=inline", "train.rounds=2", "evaluation.curve_rows=20",
        "forget=laf_adam", "forget.align_rounds=1", "forget.align.steps=1", "forget.align.lr=1e-4",
        "forget.warmup_steps=1", "forget.target_rule.strength=0.5",
        "forget.target_rule.negative_weight=0.5")  # fmt: skip


def run(folder: Path, *overrides: str) -> tuple[list[str], Report]:
    """The stages that a run had to run itself, and its report."""
    return run_plan(prepare(composed(*BASE, *overrides)), folder)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("first")
    names, report = run(folder)
    assert names == ["train", "request-1", "retrain-1"]
    return folder, report


def weights(folder: Path, name: str) -> dict[str, np.ndarray]:
    return dict(sorted(load_file(folder / "stages" / f"{name}.safetensors").items()))


def points(report: Report, stage: str) -> list[Point]:
    return [point for point in report.curves if point.stage == stage]


ALL_OF_CLIENT_0 = "{_target_: fedlaf.data.RemoveSamples, clients: [0], share: 1.0}"
ALL = ["train", "request-1", "retrain-1"]


@pytest.mark.parametrize(
    ("overrides", "run_again"),
    [
        ([], []),
        (["forget.align_rounds=2"], ["request-1"]),
        (["forget.target_rule.strength=0"], ["request-1"]),
        (["evaluation.curve_rows=10"], []),
        (["evaluation.asr=split"], []),
        (["request=remove_samples"], ["request-1", "retrain-1"]),
        (["request.clients=[1]"], ["request-1", "retrain-1"]),
        ([f"requests=[{ALL_OF_CLIENT_0}]"], ["request-1"]),  # written otherwise, the same rows go
        (["request.round=1"], ALL),  # training stops sooner
        (["train.fit.lr=1e-3"], ALL),
        (["seed=1"], ALL),
        (["corruption.backdoor.share=0.25"], ALL),
        (["model.dims=16"], ALL),
    ],
    ids=str,
)
def test_a_run_takes_up_what_it_would_make_again(
    overrides: list[str], run_again: list[str], first: tuple[Path, Report], tmp_path: Path
) -> None:
    folder, _ = first
    names, report = run(tmp_path, f"resume={folder}", *overrides)
    assert [name for name in names if name in ALL] == run_again
    for name in set(ALL) - set(run_again):
        assert same_bits(weights(tmp_path, name), weights(folder, name))
    assert report.results[0].models["original"].measures


def test_what_is_taken_up_is_what_the_run_would_have_made(
    first: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another request: the same bits as without `resume`, without training again."""
    fits = 0
    real = training.train

    def counted(*given: object) -> object:
        nonlocal fits
        fits += 1
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "train", counted)
    run(tmp_path / "alone", "request=remove_samples")
    assert fits == 2 * 4 + 2 * 4
    fits = 0
    _, resumed = run(tmp_path / "resumed", "request=remove_samples", f"resume={first[0]}")
    assert fits == 2 * 4  # the retraining's
    for name in ALL:
        assert same_bits(weights(tmp_path / "alone", name), weights(tmp_path / "resumed", name))
    assert resumed.training == first[1].training  # what was spent stays in the account


def test_a_curve_is_kept_only_where_its_rows_are_the_same(first: tuple[Path, Report], tmp_path: Path) -> None:
    folder, before = first
    assert all(len(points(before, name)) == 2 for name in ("train", "retrain-1"))
    _, same = run(tmp_path / "a", f"resume={folder}", "forget.align_rounds=2")
    for name in ("train", "retrain-1"):
        assert points(same, name) == points(before, name)
    _, other = run(tmp_path / "b", f"resume={folder}", "request.clients=[1]")
    assert points(other, "train") == []
    assert len(points(other, "retrain-1")) == 2
    _, fewer = run(tmp_path / "c", f"resume={folder}", "evaluation.curve_rows=10")
    assert points(fewer, "train") == points(fewer, "retrain-1") == []


def test_a_run_that_took_up_stages_can_be_taken_up_itself(first: tuple[Path, Report], tmp_path: Path) -> None:
    run(tmp_path / "second", f"resume={first[0]}", "request.clients=[1]")
    names, _ = run(tmp_path / "third", f"resume={tmp_path / 'second'}", "request.clients=[1]")
    assert names == []
    saved = json.loads((tmp_path / "third" / "stages" / "train.json").read_text())
    assert saved["names"][0] == "extractor.0.weight"


def test_reference_seeds_are_retrained_and_taken_up(tmp_path: Path) -> None:
    names, report = run(tmp_path / "a", "evaluation.reference_seeds=2")
    assert names == ["train", "request-1", "retrain-1", "reference-1-1", "reference-1-2"]
    models = [weights(tmp_path / "a", name) for name in names[2:]]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not same_bits(models[one], models[other])
    (result,) = report.results
    assert result.spread["gap"] > 0
    assert result.spread["js_test"] > 0
    # Measures of the three models do not depend on it, but for RMIA, whose references they are.
    again, taken_up = run(tmp_path / "b", f"resume={tmp_path / 'a'}")
    assert again == []
    for name, found in taken_up.results[0].models.items():
        measured = result.models[name].measures
        assert found.measures == {k: v for k, v in measured.items() if "rmia" not in k}
    more, longer = run(tmp_path / "c", f"resume={tmp_path / 'a'}", "evaluation.reference_seeds=3")
    assert more == ["reference-1-3"]
    assert longer.results[0].spread != result.spread
