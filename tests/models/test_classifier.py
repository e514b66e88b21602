"""Classifiers: shapes, the cut between extractor and head, sizes counted by hand, seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.published import as_published
from fedlaf.core.errors import InvalidValue
from fedlaf.models import EXTRACTOR, Classifier, Cnn, ModelSpec, ResNet18, SmallCnn
from fedlaf.models.classifier import Seeded

SPECS = [Cnn(), SmallCnn(), ResNet18()]


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def conv(inputs: int, outputs: int, side: int, *, bias: bool = True) -> int:
    return outputs * inputs * side * side + (outputs if bias else 0)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def batch(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def bits(model: nn.Module) -> dict[str, bytes]:
    return {k: v.contiguous().numpy().tobytes() for k, v in model.state_dict().items()}


@pytest.mark.parametrize(
    ("spec", "shape", "classes", "dims"),
    [
        (Cnn(), (1, 28, 28), 10, 256),
        (Cnn(), (3, 32, 32), 7, 256),
        (Cnn((4, 6), 12, 5), (2, 30, 21), 3, 12),
        (Cnn(), (1, 4, 4), 10, 256),
        (SmallCnn(), (1, 8, 8), 10, 32),
        (SmallCnn(3, 5), (3, 2, 3), 2, 5),
        (ResNet18(), (3, 32, 32), 10, 256),
        (ResNet18(16, "imagenet"), (3, 32, 32), 4, 16),
        (ResNet18(16, "imagenet"), (1, 32, 32), 4, 16),
        (ResNet18(16, "cifar"), (1, 28, 28), 4, 16),
    ],
    ids=str,
)
def test_both_outputs_have_their_shapes(
    spec: ModelSpec, shape: tuple[int, int, int], classes: int, dims: int
) -> None:
    model = spec.build(shape, classes, 0).eval()
    with torch.no_grad():
        found = model(batch(2, *shape))
    assert found.representation.shape == (2, dims)
    assert found.logits.shape == (2, classes)
    assert model.dims == dims
    assert torch.isfinite(found.logits).all()


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: type(s).__name__)
def test_extractor_and_head_are_apart(spec: ModelSpec) -> None:
    model = spec.build((1, 8, 8), 10, 0).eval()
    x = batch(3, 1, 8, 8)
    with torch.no_grad():
        found = model(x)
        torch.testing.assert_close(model.extractor(x), found.representation, rtol=0, atol=0)
        torch.testing.assert_close(model.head(found.representation), found.logits, rtol=0, atol=0)
        for parameter in model.head.parameters():
            parameter.zero_()
        again = model(x)
    assert torch.equal(again.representation, found.representation)
    assert not again.logits.any()
    names = list(model.state_dict())
    own = [f"{EXTRACTOR}{name}" for name in model.extractor.state_dict()]
    assert own == [name for name in names if name.startswith(EXTRACTOR)]
    assert all(name.startswith("head.") for name in names if name not in own)
    assert size(model.extractor) + size(model.head) == size(model)


def test_the_papers_cnn_has_the_parameters_of_its_layers() -> None:
    model = Cnn().build((1, 28, 28), 10, 0)
    flat = 32 * 7 * 7  # 28 is halved twice; the 5x5 convolutions are padded
    assert size(model.extractor) == conv(1, 16, 5) + conv(16, 32, 5) + linear(flat, 256) == 414_912
    assert size(model.head) == linear(256, 128) + linear(128, 10) == 34_186


def test_the_cnn_of_colour_images_differs_in_what_the_input_touches() -> None:
    model = Cnn().build((3, 32, 32), 10, 0)
    assert size(model.extractor) == conv(3, 16, 5) + conv(16, 32, 5) + linear(32 * 8 * 8, 256)
    assert size(model.head) == 34_186


def test_the_small_cnn_has_the_parameters_of_its_layers() -> None:
    model = SmallCnn().build((1, 8, 8), 10, 0)
    assert size(model.extractor) == conv(1, 8, 3) + linear(8 * 4 * 4, 32) == 4_208
    assert size(model.head) == linear(32, 10)


def residual_trunk() -> int:
    """ResNet-18's four stages, each of two blocks of two 3x3 convolutions (He et al. 2016)."""
    total, before = 0, 64
    for width in (64, 128, 256, 512):
        norm = 2 * width
        total += conv(before, width, 3, bias=False) + 3 * conv(width, width, 3, bias=False) + 4 * norm
        if before != width:  # the shortcut of the first block
            total += conv(before, width, 1, bias=False) + norm
        before = width
    return total


@pytest.mark.parametrize(
    ("stem", "side", "channels"), [("cifar", 3, 3), ("imagenet", 7, 3), ("imagenet", 7, 1)]
)
def test_resnet18_has_the_parameters_of_its_layers(stem: str, side: int, channels: int) -> None:
    model = ResNet18(256, stem).build((channels, 32, 32), 10, 0)
    first = conv(channels, 64, side, bias=False) + 2 * 64
    assert size(model.extractor) == first + residual_trunk() + linear(512, 256)
    assert size(model.head) == linear(256, 10)


@pytest.mark.parametrize(("stem", "last"), [("cifar", (4, 4)), ("imagenet", (1, 1))])
def test_the_cifar_stem_keeps_small_images_large(stem: str, last: tuple[int, int]) -> None:
    # 32 is halved three times by the stages, and twice more by the ImageNet stem.
    model = ResNet18(8, stem).build((3, 32, 32), 10, 0).eval()
    seen: list[Any] = []
    trunk: Any = model.extractor
    trunk.layer4.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
    with torch.no_grad():
        model(batch(1, 3, 32, 32))
    assert seen == [(1, 512, *last)]


def test_batchnorm_statistics_are_among_the_weights() -> None:
    model = ResNet18(8).build((3, 8, 8), 10, 0).train()
    before = model.state_dict()["extractor.bn1.running_mean"].clone()
    model(batch(4, 3, 8, 8))
    assert not torch.equal(model.state_dict()["extractor.bn1.running_mean"], before)
    assert int(model.state_dict()["extractor.bn1.num_batches_tracked"]) == 1


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: type(s).__name__)
def test_the_seed_alone_decides_and_the_global_generator_stays(spec: ModelSpec) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = bits(spec.build((1, 8, 8), 10, 1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert bits(spec.build((1, 8, 8), 10, 1)) == first
    other = bits(spec.build((1, 8, 8), 10, 2))
    assert list(other) == list(first)
    drawn = [name for name in first if name.endswith("weight") and ".bn" not in name]
    assert sum(other[name] != first[name] for name in drawn) > len(drawn) / 2


def test_the_global_generator_comes_back_after_an_error_too() -> None:
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="negative dimension"), Seeded(3):
        torch.rand(-1)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_extractor_is_trained_without_its_head() -> None:
    model: Classifier = SmallCnn().build((1, 8, 8), 10, 0)
    model(batch(2, 1, 8, 8)).representation.sum().backward()
    assert all(p.grad is not None for p in model.extractor.parameters())
    assert all(p.grad is None for p in model.head.parameters())


def test_specifications_are_hashable_whatever_a_configuration_writes() -> None:
    listed: Any = [16, 32]
    assert Cnn(listed) == Cnn((16, 32))
    assert hash(Cnn(listed)) == hash(Cnn())


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Cnn, {"channels": (16,)}, "channels: expected two numbers of channels"),
        (Cnn, {"channels": (16, 0)}, "channels: expected a whole number of at least 1"),
        (Cnn, {"channels": (1.5, 3)}, "channels: expected a whole number of at least 1"),
        (Cnn, {"channels": (3, 4.5)}, "channels: expected a whole number of at least 1"),
        (Cnn, {"dims": 0}, "dims: expected a whole number of at least 1"),
        (Cnn, {"hidden": "x"}, "hidden: expected a whole number of at least 1"),
        (SmallCnn, {"channels": 0}, "channels: expected a whole number of at least 1"),
        (SmallCnn, {"dims": np.inf}, "dims: expected a whole number of at least 1"),
        (ResNet18, {"stem": "vgg"}, "stem: expected cifar or imagenet, got 'vgg'"),
        (ResNet18, {"dims": -1}, "dims: expected a whole number of at least 1"),
    ],
)
def test_what_cannot_be_built_is_refused(kind: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{message}"):
        kind(**arguments)


def test_pooling_before_relu_is_relu_before_pooling_bit_for_bit() -> None:
    fast = Cnn((3, 4), 6, 5).build((1, 12, 12), 3, seed=1).extractor
    slow = as_published(fast).to(memory_format=torch.channels_last)
    assert [type(layer).__name__ for layer in list(slow)[1:3]] == ["ReLU", "MaxPool2d"]
    # Blank patches, as images have them: all numbers of a window are equal there.
    x = torch.where(batch(20, 1, 12, 12) > 0.6, batch(20, 1, 12, 12), 0.0)
    found = [extractor(x) for extractor in (fast, slow)]
    assert torch.equal(*found)
    for output in found:
        output.square().sum().backward()
    for one, other in zip(fast.parameters(), slow.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
