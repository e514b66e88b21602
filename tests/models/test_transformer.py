"""Transformers and multilayer perceptrons: shapes, sizes counted by hand, torch's attention, modes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlaf.core.errors import InvalidValue
from fedlaf.models import EXTRACTOR, Mlp, ModelSpec, Transformer, Vit, in_precision
from fedlaf.models.transformer import Attention

CASES: list[tuple[ModelSpec, tuple[int, ...]]] = [
    (Transformer(), (1, 40)),
    (Transformer(patch=3, width=12, heads=3, depth=1, dims=7), (2, 23)),
    (Transformer(patch=1, depth=1), (4, 1)),
    (Vit(), (1, 28, 28)),
    (Vit(patch=3, width=8, heads=2, depth=1, dims=5), (3, 8, 10)),
    (Mlp(), (30,)),
    (Mlp((), 6), (2, 3)),
    (Mlp((8, 9), 6), (1, 4, 4)),
]
each = pytest.mark.parametrize(("spec", "shape"), CASES, ids=str)


def batch(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def bits(model: nn.Module) -> dict[str, bytes]:
    return {k: v.contiguous().numpy().tobytes() for k, v in model.state_dict().items()}


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@each
def test_both_outputs_have_their_shapes_and_the_extractor_ends_in_a_linear_layer(
    spec: Any, shape: tuple[int, ...]
) -> None:
    model = spec.build(shape, 3, 0)
    with torch.no_grad():
        found = model(batch(4, *shape))
    assert found.representation.shape == (4, spec.dims)
    assert found.logits.shape == (4, 3)
    last = list(model.extractor.modules())[-1]
    assert isinstance(last, nn.Linear)
    assert last.out_features == model.dims == spec.dims
    name, _ = list(model.named_parameters())[-3]
    assert name.startswith(EXTRACTOR)  # two of the head, then the bias of that layer
    seen: list[Tensor] = []
    last.register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        again = model(batch(4, *shape))
    assert torch.equal(seen[0], again.representation)  # nothing comes after it


@each
def test_training_and_evaluation_mode_compute_the_same_bits(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    model = spec.build(shape, 3, 0)
    x = batch(5, *shape)
    train, other = model.train()(x), model.eval()(x)
    assert torch.equal(train.representation, other.representation)
    assert torch.equal(train.logits, other.logits)
    assert not list(model.buffers())


@each
def test_the_seed_alone_decides_and_the_global_generator_stays(
    spec: ModelSpec, shape: tuple[int, ...]
) -> None:
    state = torch.random.get_rng_state()
    first, again, other = (spec.build(shape, 3, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert bits(first) == bits(again)
    assert bits(first) != bits(other)


@each
def test_a_row_does_not_see_the_others_of_its_batch(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    model = spec.build(shape, 3, 0)
    x = batch(6, *shape)
    with torch.no_grad():
        alone = torch.cat([model(row[None]).logits for row in x])
        torch.testing.assert_close(model(x).logits, alone, rtol=1e-4, atol=1e-5)


@each
def test_half_precision_gives_single_and_stays_near(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    x = batch(6, *shape)
    whole = spec.build(shape, 3, 0)(x).logits
    half = in_precision(spec.build(shape, 3, 0), "bf16")(x).logits
    assert half.dtype == torch.float32
    assert not torch.equal(whole, half)
    torch.testing.assert_close(whole, half, rtol=0.1, atol=0.1)


@each
def test_all_parameters_learn(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    model = spec.build(shape, 3, 0)
    functional.cross_entropy(model(batch(6, *shape)).logits, torch.arange(6) % 3).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(bool(p.grad.any()) for name, p in model.named_parameters() if name.endswith("weight"))


def test_attention_is_that_of_torch() -> None:
    attention = Attention(12, 3)
    tokens = batch(4, 7, 12)
    parts = attention.queries_keys_values(tokens).split(12, dim=2)
    heads = [part.unflatten(2, (3, 4)).transpose(1, 2) for part in parts]
    mixed = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(tokens), attention.mixed(mixed))


def blocks(width: int) -> int:
    attention = linear(width, 3 * width) + linear(width, width)
    return attention + linear(width, 2 * width) + linear(2 * width, width) + 2 * 2 * width


def test_they_have_the_parameters_of_their_layers() -> None:
    series = Transformer(patch=2, width=16, heads=2, depth=3, dims=9).build((2, 40), 5, 0)
    stem, tokens = 16 * 2 * 3 + 16, 20
    assert size(series.extractor) == stem + tokens * 16 + 3 * blocks(16) + 2 * 16 + linear(16, 9)
    assert size(series.head) == linear(9, 5)
    image = Vit(patch=5, width=16, heads=4, depth=2, dims=9).build((3, 28, 28), 5, 0)
    stem, tokens = 16 * 3 * 25 + 16, 5 * 5  # 28 is cut to 25
    assert size(image.extractor) == stem + tokens * 16 + 2 * blocks(16) + 2 * 16 + linear(16, 9)
    table = Mlp((8, 9), 6).build((30,), 2, 0)
    assert size(table.extractor) == linear(30, 8) + linear(8, 9) + linear(9, 6)


def test_the_order_of_a_series_matters() -> None:
    model = Transformer(patch=1).build((1, 10), 3, 0)
    x = batch(2, 1, 10)
    with torch.no_grad():
        assert not torch.allclose(model(x).logits, model(x.flip(2)).logits, atol=1e-3)


@pytest.mark.parametrize(
    ("spec", "shape", "line"),
    [
        (Transformer(), (1, 28, 28), r"^model: expected one for inputs of shape \[1, 28, 28\]"),
        (Transformer(), (30,), r"^model: expected one for inputs of shape \[30\]"),
        (Vit(), (1, 40), r"^model: expected one for inputs of shape \[1, 40\]"),
        (Vit(patch=9), (1, 8, 12), r"^model.patch: expected at most the 8 pixels of an image, got 9"),
    ],
    ids=str,
)
def test_inputs_that_a_model_cannot_take_are_refused(
    spec: ModelSpec, shape: tuple[int, ...], line: str
) -> None:
    with pytest.raises(InvalidValue, match=line):
        spec.build(shape, 3, 0)


@pytest.mark.parametrize("kind", [Transformer, Vit])
def test_heads_must_divide_the_width_and_sizes_be_counts(kind: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^heads: expected a divisor of width, 64, got 5"):
        kind(heads=5)
    for name in ("patch", "width", "heads", "depth", "dims"):
        with pytest.raises(InvalidValue, match=f"^{name}: expected a whole number of at least 1, got 0"):
            kind(**{name: 0})
    with pytest.raises(InvalidValue, match=r"^hidden: expected a whole number"):
        Mlp((8, 0))
