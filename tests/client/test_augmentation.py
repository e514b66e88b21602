"""Training crops and flips rows at the size at which its model works."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.images import images, sides_seen
from torch.nn import functional

from fedlaf.client.steps import training
from fedlaf.data import LabelledRows
from fedlaf.models import ResNet18, SmallCnn
from fedlaf.objectives.classification import Fit


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
