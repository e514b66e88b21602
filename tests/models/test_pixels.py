"""ResNet-18 at another size than the images': resizing, augmentation at that size, and LAF around both."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.federations import same_bits
from torch import Tensor
from torch.nn import functional

from fedlaf import __main__ as entry
from fedlaf.client.steps import training
from fedlaf.core.errors import InvalidValue
from fedlaf.data import Dataset, LabelledRows, as_input
from fedlaf.models import Classifier, ResNet18, SmallCnn
from fedlaf.models.arrays import weights_of
from fedlaf.objectives.classification import Fit
from fedlaf.strategies.base.densities import extractor_of, with_extractor


def images(count: int, side: int = 8, seed: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=stream, dtype=torch.uint8)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bilinear(row: Tensor, side: int) -> Tensor:
    """One channel [h, w] at another size, pixel by pixel: centres aligned, edges repeated."""
    height, width = row.shape
    found = torch.empty(side, side, dtype=torch.float64)
    for i in range(side):
        for j in range(side):
            y = min(max((i + 0.5) * height / side - 0.5, 0), height - 1)
            x = min(max((j + 0.5) * width / side - 0.5, 0), width - 1)
            top, left = int(y), int(x)
            low, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = row[top, left] * (1 - (x - left)) + row[top, right] * (x - left)
            lower = row[low, left] * (1 - (x - left)) + row[low, right] * (x - left)
            found[i, j] = upper * (1 - (y - top)) + lower * (y - top)
    return found


# ---- the model


@pytest.mark.parametrize(("stem", "pixels"), [("imagenet", 40), ("cifar", 12)])
def test_outputs_have_their_shapes_and_the_trunk_works_at_its_size(stem: str, pixels: int) -> None:
    model = ResNet18(16, stem, pixels).build((3, 8, 8), 4, 0).eval()
    seen: list[torch.Size] = []
    trunk: Any = model.extractor
    trunk[1].conv1.register_forward_hook(lambda _module, given, _output: seen.append(given[0].shape))
    with torch.no_grad():
        found = model(images(2).float())
    assert (found.representation.shape, found.logits.shape) == ((2, 16), (2, 4))
    assert seen == [(2, 3, pixels, pixels)]
    assert (model.dims, model.pixels) == (16, pixels)


@pytest.mark.parametrize("pixels", [12, 5])
def test_inputs_are_resized_bilinearly(pixels: int) -> None:
    resize: Any = ResNet18(8, "imagenet", pixels).build((3, 8, 8), 4, 0).extractor
    x = images(1)
    found = resize[0](x.float())
    for channel in range(3):
        expected = bilinear(x[0, channel].double(), pixels)
        torch.testing.assert_close(found[0, channel].double(), expected, rtol=0, atol=1e-3)


def test_resizing_to_the_size_that_inputs_have_changes_no_bit() -> None:
    plain = ResNet18(8, "imagenet").build((3, 16, 16), 4, 0).eval()
    same = ResNet18(8, "imagenet", 16).build((3, 16, 16), 4, 0).eval()
    x = as_input(images(3, 16), torch.device("cpu"))
    with torch.no_grad():
        assert torch.equal(plain(x).logits, same(x).logits)


def test_without_pixels_names_and_initial_bits_are_what_they_were() -> None:
    plain, resizing = (ResNet18(8, "imagenet", p).build((3, 8, 8), 4, 3) for p in (None, 40))
    assert plain.pixels is None
    assert next(iter(plain.state_dict())) == "extractor.conv1.weight"
    assert next(iter(resizing.state_dict())) == "extractor.1.conv1.weight"
    renamed = {k.replace("extractor.1.", "extractor."): v for k, v in weights_of(resizing).items()}
    assert same_bits(weights_of(plain), renamed)


@pytest.mark.parametrize("pixels", [0, -1, 2.5, "224"])
def test_a_size_that_is_none_is_refused(pixels: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^pixels: expected a whole number of at least 1"):
        ResNet18(pixels=pixels)


def test_the_extractors_arrays_are_cut_out_and_put_back_by_name() -> None:
    model = ResNet18(8, "imagenet", 40).build((3, 8, 8), 4, 0)
    weights = weights_of(model)
    cut = extractor_of(weights)
    assert list(cut) == list(model.extractor.state_dict())
    moved = {k: np.asarray(v + 1) for k, v in cut.items()}
    back = with_extractor(weights, moved)
    assert list(back) == list(weights)
    assert all(back[k] is weights[k] for k in back if k.startswith("head."))
    model.load_state_dict({k: torch.from_numpy(v) for k, v in back.items()})
    assert same_bits(weights_of(model.extractor), moved)


# ---- augmentation


def test_rows_are_cropped_and_flipped_at_the_size_of_the_model() -> None:
    x = images(40)
    found = training.augmented(x, "crop_flip", stream(), 20)
    assert (found.shape, found.dtype) == ((40, 3, 20, 20), torch.uint8)
    draw = stream()
    top, left = (torch.randint(0, 9, (40,), generator=draw) for _ in range(2))
    flip = torch.randint(0, 2, (40,), generator=draw).bool()
    assert 5 < int(flip.sum()) < 35
    large = functional.interpolate(x.float(), (20, 20), mode="bilinear").round().to(torch.uint8)
    for i in range(40):
        padded = functional.pad(large[i], (4, 4, 4, 4))
        crop = padded[:, top[i] : top[i] + 20, left[i] : left[i] + 20]
        assert torch.equal(found[i], crop.flip(2) if flip[i] else crop)


def test_at_the_papers_size_the_same_draws_give_the_same_bits() -> None:
    x = images(3, 32)
    first, again, other = (training.augmented(x, "crop_flip", stream(s), 224) for s in (1, 1, 2))
    assert first.shape == (3, 3, 224, 224)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_flip_is_a_true_mirror() -> None:
    """Of the rows that one draw crops alike, those that are flipped are the others mirrored."""
    large = training.resized(images(1), 16)
    padded = functional.pad(large[0], (4, 4, 4, 4))
    crops = [padded[:, i : i + 16, j : j + 16] for i in range(9) for j in range(9)]
    plain = {crop.numpy().tobytes() for crop in crops}
    mirrored = {crop.flip(2).contiguous().numpy().tobytes() for crop in crops}
    found = training.augmented(images(1).repeat(300, 1, 1, 1), "crop_flip", stream(), 16)
    kinds = [row.numpy().tobytes() for row in found]
    assert set(kinds) <= plain | mirrored
    assert set(kinds) & plain
    assert set(kinds) & mirrored


def test_without_augmentation_rows_stay_small_and_the_model_resizes() -> None:
    x = images(4)
    assert training.augmented(x, "none", stream(), 224) is x


def sides_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int]]:
    """Of each batch to come: whether it is trained on, and its side."""
    seen: list[tuple[bool, int]] = []
    forward = Classifier.forward

    def watched(self: Classifier, x: Tensor) -> Any:
        seen.append((self.training, x.shape[-1]))
        return forward(self, x)

    monkeypatch.setattr(Classifier, "forward", watched)
    return seen


@pytest.mark.parametrize(
    ("model", "augment", "side"),
    [
        (ResNet18(8, "imagenet", 20), "crop_flip", 20),
        (ResNet18(8, "imagenet", 20), "none", 8),
        (SmallCnn(), "crop_flip", 8),
    ],
    ids=str,
)
def test_training_augments_at_the_size_of_its_model(
    model: Any, augment: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = sides_seen(monkeypatch)
    rows = LabelledRows(images(6), torch.arange(6))
    training.train(model.build((3, 8, 8), 10, 0), rows, Fit(augment=augment, batch_size=3), stream())
    assert seen == [(True, side)] * 2


# ---- the whole


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
    from safetensors.numpy import load_file

    before, after = (load_file(tmp_path / "stages" / f"{s}.safetensors") for s in ("train", "request-1"))
    assert set(before) == set(after)
    moved = {k for k in before if not np.array_equal(before[k], after[k])}
    assert "extractor.1.conv1.weight" in moved
    # The head stays, and so do BatchNorm's statistics.
    assert not any(k.startswith("head.") or "running" in k for k in moved)
