"""A whole run whose model works at another size than the images'."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support.images import images, sides_seen

from fedlaf import __main__ as entry
from fedlaf.data import Dataset, LabelledRows


@dataclass(frozen=True)
class Coloured:
    """Rows of 3 x 8 x 8 pixels that are the brighter the higher their class."""

    root: str | None = None
    train_rows: int | None = None
    test_rows: int | None = None

    def prepare(self) -> None:
        pass

    def load(self) -> Dataset:
        parts = []
        for seed, count in enumerate((24, 8)):
            y = torch.arange(count) % 4
            x = images(count, seed=seed) // 4 + (48 * y[:, None, None, None]).byte()
            parts.append(LabelledRows(x, y))
        return Dataset("coloured", *parts, 4)


def test_a_run_with_a_resizing_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = sides_seen(monkeypatch)
    overrides = [
        "data=digits", f"data._target_={__name__}.Coloured", "corruption=none", "clients=2", "engine=inline",
        "model=resnet18", "model.stem=imagenet", "+model.pixels=40", "model.dims=16", "train.rounds=1",
        "train.fit.augment=crop_flip", "forget=laf_tuned_losses", "forget.represent_rounds=1",
        "forget.forget_rounds=1", "forget.recover_rounds=1", "forget.forget_steps=1",
        "evaluation.curve_rows=0",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["fedlaf", *overrides, f"hydra.run.dir={tmp_path}"])
    entry.main()
    assert (tmp_path / "report.json").is_file()
    assert {side for training_, side in seen if training_} == {40}
    assert {side for training_, side in seen if not training_} == {8}
    before, after = (load_file(tmp_path / "stages" / f"{s}.safetensors") for s in ("train", "request-1"))
    assert set(before) == set(after)
    moved = {k for k in before if not np.array_equal(before[k], after[k])}
    assert "extractor.1.conv1.weight" in moved
    # The head stays, and so do BatchNorm's statistics.
    assert not any(k.startswith("head.") or "running" in k for k in moved)
