"""ResNet-18 at another size than the images': it resizes, and its arrays keep their names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.federations import same_bits
from support.images import images
from torch import Tensor

from fedlaf.core.errors import InvalidValue
from fedlaf.data import as_input
from fedlaf.models import ResNet18
from fedlaf.models.arrays import weights_of


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
