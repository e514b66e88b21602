"""Mixed precision: fp32 is what it was, halves are close to it, weights stay single."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from support.federations import furthest, same_bits, small_spec
from support.withdrawals import train_and_withdraw

from fedlaf.client.runtime import measured_model, resident_model
from fedlaf.client.steps import representations, targets, training
from fedlaf.client.steps.targets import Targets
from fedlaf.core.errors import InvalidValue
from fedlaf.core.types import Weights
from fedlaf.data import LabelledRows, Rows
from fedlaf.models import Classifier, Descent, SmallCnn, build_vae, gradients_of, in_precision
from fedlaf.models.arrays import weights_of
from fedlaf.models.precision import FIRST_SCALE
from fedlaf.objectives.classification import Fit
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.objectives.laf_targets import Alignment
from fedlaf.strategies.laf_adam import LafAdam
from fedlaf.strategies.laf_published import PublishedLaf
from fedlaf.strategies.laf_published_server import PublishedLafServer

HALF = ("bf16", "fp16")


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def weights_in(precision: str) -> dict[str, Weights]:
    spec = replace(small_spec(rows=200), precision=precision)
    return train_and_withdraw(spec, METHODS, Fit(lr=1e-2))


VAE = Represent(latent=4)
METHODS = {
    "adam": LafAdam(
        represent=VAE, represent_rounds=1, align=Alignment(steps=4), align_rounds=1, warmup_steps=2
    ),
    "published": PublishedLaf(
        represent=VAE,
        represent_rounds=1,
        forget=Forget(lr_alignment=1e-3),
        forget_steps=3,
        closing_rounds=2,
    ),
    "server": PublishedLafServer(
        represent=VAE,
        represent_rounds=1,
        forget=Forget(lr_alignment=1e-3),
        forget_steps=2,
        closing_rounds=2,
    ),
}


@pytest.mark.parametrize("precision", HALF)
def test_every_method_ends_close_to_single_precision_and_sends_the_same_types(precision: str) -> None:
    single, half = weights_in("fp32"), weights_in(precision)
    for name, weights in half.items():
        assert [a.dtype for a in weights.values()] == [a.dtype for a in single[name].values()], name
        assert not same_bits(weights, single[name]), f"{name} was not computed in {precision}"
        # Two rounds of seven steps of Adam at 1e-2 move a weight by 0.1 or so.
        assert furthest(weights, single[name]) < 0.12, name


def test_half_precision_trains() -> None:
    data = LabelledRows(torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=stream(1)),
                        torch.arange(64) % 10)  # fmt: skip
    for precision in HALF:
        model = in_precision(SmallCnn().build((1, 8, 8), 10, 0), precision)
        first, _ = training.train(model, data, Fit(lr=1e-2), stream(2))
        last, _ = training.train(model, data, Fit(lr=1e-2, epochs=30), stream(3))
        assert last["loss"] < 0.5 * first["loss"]
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("precision", HALF)
def test_forward_passes_are_in_half_and_their_results_single(precision: str) -> None:
    model = SmallCnn().build((1, 8, 8), 10, 0)
    seen: list[torch.dtype] = []
    model.extractor.register_forward_hook(lambda module, given, found: seen.append(found.dtype))
    in_precision(model, precision)
    with torch.no_grad():
        found = model(torch.rand(3, 1, 8, 8))
    assert seen == [{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]]
    assert found.representation.dtype == found.logits.dtype == torch.float32


def test_single_precision_leaves_a_module_and_its_steps_alone() -> None:
    model = SmallCnn().build((1, 8, 8), 10, 0)
    before = model.forward
    assert in_precision(model, "fp32").forward == before
    plain = SmallCnn().build((1, 8, 8), 10, 0)
    adam = torch.optim.Adam(plain.parameters(), lr=1e-2)
    descent = Descent(torch.optim.Adam(model.parameters(), lr=1e-2), model)
    x = torch.rand(5, 1, 8, 8)
    for _ in range(3):
        descent.step(model(x).logits.square().mean())
        adam.zero_grad()
        plain(x).logits.square().mean().backward()
        adam.step()
    assert same_bits(weights_of(model), weights_of(plain))


def large_loss(model: Classifier) -> torch.Tensor:
    return model(torch.rand(5, 1, 8, 8, generator=stream(1))).logits.square().mean() * 1e4


def test_an_fp16_step_that_overflows_is_taken_at_a_smaller_scale() -> None:
    model = in_precision(SmallCnn().build((1, 8, 8), 10, 0), "fp16")
    plain = SmallCnn().build((1, 8, 8), 10, 0)
    descent = Descent(torch.optim.SGD(model.parameters(), lr=1e-5), model)
    descent.step(large_loss(model))
    assert descent.scaler.get_scale() < FIRST_SCALE
    Descent(torch.optim.SGD(plain.parameters(), lr=1e-5), plain).step(large_loss(plain))
    before = weights_of(SmallCnn().build((1, 8, 8), 10, 0))
    moved = furthest(weights_of(plain), before)
    assert furthest(weights_of(model), weights_of(plain)) < 0.02 * moved
    descent.step(large_loss(model) * float("nan"))  # no scale helps: no step, and no endless search
    assert furthest(weights_of(model), weights_of(plain)) < 0.02 * moved


def test_fp16_gradients_that_overflow_are_found_at_a_smaller_scale() -> None:
    model = in_precision(SmallCnn().build((1, 8, 8), 10, 0), "fp16")
    plain = SmallCnn().build((1, 8, 8), 10, 0)
    half, single = (gradients_of(large_loss(m), m) for m in (model, plain))
    expected = torch.autograd.grad(large_loss(plain), list(plain.parameters()))
    for (name, gradient), one in zip(single.items(), expected, strict=True):
        assert torch.equal(gradient, one)
        assert torch.allclose(half[name], one, atol=0.02 * float(one.abs().max()))


def test_a_vae_and_alignment_in_bf16_stay_near_those_in_single() -> None:
    rows = torch.randn(50, 32, generator=stream(1))
    losses, students = [], []
    for precision in ("fp32", "bf16"):
        vae = in_precision(build_vae(32, 4, "linear", 0), precision)
        losses.append(representations.fit_vae(vae, rows, Represent(latent=4), 3, stream(2))[0])
        extractor = in_precision(SmallCnn().build((1, 8, 8), 10, 0).extractor, precision)
        x = Rows(torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8, generator=stream(3)))
        sides = (Targets(x, rows), Targets(Rows(x.x[:0]), rows[:0]))
        numbers, _ = targets.toward(extractor, sides, Alignment(steps=5), stream(4))
        students.append(numbers["distance_to_target_retain"])
    assert losses[0] != losses[1]
    assert np.isclose(*losses, rtol=0.01)
    assert students[0] != students[1]
    assert np.isclose(*students, rtol=0.02)


def test_models_are_measured_in_single_precision() -> None:
    spec = replace(small_spec(rows=100), precision="bf16")
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        resident, measured = (model(x).logits for model in (resident_model(spec), measured_model(spec)))
        single = resident_model(replace(spec, precision="fp32"))(x).logits
    assert torch.equal(measured, single)
    assert not torch.equal(resident, single)


def test_an_unknown_precision_is_refused_in_one_line() -> None:
    with pytest.raises(InvalidValue, match="precision: expected fp32 or bf16 or fp16, got 'fp8'"):
        replace(small_spec(), precision="fp8")
