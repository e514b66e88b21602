"""The examples' own data and models, from training to report; what does not go together is one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fedlaf import __main__ as entry

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
TINY = (
    "clients=3", "train.rounds=1", "engine=inline", "evaluation.curve_rows=20", "train.fit.batch_size=64",
    "evaluation/measure=[relearn,head_relearn,probe,layers,halves]",
)  # fmt: skip
DATA = (
    *TINY, "data=mnist1d", "data.train_rows=150", "data.test_rows=60", "data.writers=7", "partition=natural",
)  # fmt: skip
SERIES = (
    *DATA, "model=transformer", "model.width=8", "model.heads=2", "model.depth=1", "model.dims=8",
)  # fmt: skip
TABLE = (*TINY, "data=breast_cancer", "model=mlp", "corruption=none")
METHODS = {
    "laf": ("train.rounds=2",),  # one leaves a model whose rows all change: laf stops
    "laf_adam": (
        "forget.align_rounds=1", "forget.align.steps=1", "forget.warmup_steps=1",
    ),
    "laf_tuned_losses": (
        "forget.represent_rounds=1", "forget.forget_rounds=1", "forget.forget_steps=1",
        "forget.recover_rounds=1", "forget.recover.steps=1",
    ),
    "scrub": (
        "forget.push_rounds=1", "forget.hold_rounds=2", "forget.push.steps=1", "forget.hold.steps=1",
    ),
    "boundary": ("forget.shrink.steps=1",),
}  # fmt: skip


@pytest.fixture(autouse=True)
def examples_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)


def fedlaf(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fedlaf", "--config-dir", str(EXAMPLES / "conf"), *overrides])
    entry.main()


def request(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> dict[str, Any]:
    fedlaf(monkeypatch, *overrides, f"hydra.run.dir={folder}")
    (found,) = json.loads((folder / "report.json").read_text())["requests"]
    return dict(found)


@pytest.mark.parametrize("method", METHODS)
def test_float_series_of_writers_pass_through_a_transformer(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = request(monkeypatch, tmp_path, *SERIES, f"forget={method}", *METHODS[method])
    models = found["models"]
    assert set(models) == {"original", "unlearned", "retrained"}
    assert models["unlearned"]["gap"] is not None
    assert 0 <= models["original"]["backdoor_success"] <= 100
    assert found["withdrawn"] == [0]
    assert 50 < found["rows"] < 80  # client 0 has three of the seven writers
    assert set(models["original"]) == set(models["retrained"]) - {"fairness_passes"}
    assert len(found["by_class"]["unlearned"]["test"]) == 10
    assert "extractor.1.attention.1.mixed" in found["layers"]["unlearned"]
    assert (found["costs"]["unlearned"]["gradient_passes"] == 0) == (method == "laf")  # closed form
    assert (found["costs"]["unlearned"]["labels_read"] == 0) == method.startswith("laf")


@pytest.mark.parametrize("method", METHODS)
def test_a_table_of_two_classes_passes_through_a_perceptron(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "residual_mlp" if method == "laf" else "mlp"
    found = request(monkeypatch, tmp_path, *TABLE, f"forget={method}", *METHODS[method], f"model={model}")
    assert len(found["by_class"]["unlearned"]["test"]) == 2
    assert "backdoor_success" not in found["models"]["unlearned"]
    assert found["models"]["unlearned"]["mia_trees_auc"] is not None
    assert found["models"]["retrained"]["accuracy_test"] > 50


WRONG = {
    "no groups": (
        (*TABLE, "partition=natural"),
        "partition: expected another one than natural for data without groups, got 'natural'",
    ),
    "few groups": ((*SERIES, "clients=8"), "clients: expected at most the 7 groups of the data, got 8"),
    "patch in a table": (
        (*TABLE, "corruption=backdoor"),
        "corruption.backdoor: expected null (corruption=none) where inputs are neither images nor series",
    ),
    "patch in a series": (
        (*SERIES, "corruption.backdoor.patch=40"),
        "corruption.backdoor.patch: expected fewer than the 40 steps of a series, got 40",
    ),
    "target": (
        (*SERIES, "corruption.backdoor.target=10"), "corruption.backdoor.target: expected a class below 10",
    ),
    "model": (
        (*DATA, "model=cnn"),
        "model: expected one for inputs of shape [1, 40], got 'one for [channels, height, width]'",
    ),
    "heads": ((*SERIES, "model.heads=3"), "model.heads: expected a divisor of width, 8, got 3"),
    "patches": (
        (*TINY, "data=digits", "corruption=none", "model=vit", "model.patch=9"),
        "model.patch: expected at most the 8 pixels of an image, got 9",
    ),
    "crops": (
        (*SERIES, "train.fit.augment=crop_flip"),
        "train.fit.augment: expected none for inputs of shape [1, 40], no images, got 'crop_flip'",
    ),
    "crops later": (
        (*TABLE, "forget=boundary", "forget.recover.augment=crop_flip"),
        "forget.recover.augment: expected none for inputs of shape [30], no images, got 'crop_flip'",
    ),
    "style": ((*SERIES, "data.style=2"), "data.style: expected a finite number of at least 0 at most 1"),
}  # fmt: skip


@pytest.mark.parametrize(("overrides", "line"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_go_together_is_one_line(
    overrides: tuple[str, ...], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    last = {override.partition("=")[0]: override for override in overrides}  # Hydra takes a group once
    with pytest.raises(SystemExit) as ended:
        fedlaf(monkeypatch, *last.values(), f"hydra.run.dir={tmp_path}/out")
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fedlaf: error: {line}")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
