"""One phase on one client: training is the obvious loop, forgetting touches only the extractor."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.federations import enrolled, furthest, initial_weights, small_spec
from torch.nn import functional

from fedlaf.client import batches
from fedlaf.client.context import positions
from fedlaf.client.steps import laf_loop, representations, training
from fedlaf.client.steps.laf_loop import Side, Task
from fedlaf.core.request import ForgetRequest, RowSplit
from fedlaf.data import LabelledRows, RowAccessLog, Rows
from fedlaf.method.contract import Stage
from fedlaf.models import Cnn, ResNet18, SmallCnn, build_vae
from fedlaf.objectives.classification import Fit
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.laf_published import PublishedLaf


def rows(count: int, shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> LabelledRows:
    stream = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (count, *shape), generator=stream, dtype=torch.uint8)
    return LabelledRows(x, torch.randint(0, 10, (count,), generator=stream))


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 30))
def test_steps_are_shuffled_passes_one_after_the_other(count: int, size: int, wanted: int) -> None:
    drawn = list(batches.steps(count, size, wanted, stream()))
    assert len(drawn) == wanted
    if count == 0:
        assert all(len(batch) == 0 for batch in drawn)
        return
    a_pass = -(-count // size)
    for start in range(0, wanted - a_pass + 1, a_pass):
        together = torch.cat(drawn[start : start + a_pass])
        assert sorted(together.tolist()) == list(range(count))


@pytest.mark.parametrize(
    "settings", [Fit(lr=1e-2, weight_decay=1e-3, epochs=2), Fit("sgd", 0.1, momentum=0.9)]
)
def test_training_is_the_obvious_loop(settings: Fit) -> None:
    data = rows(70)
    model, plain = (SmallCnn().build((1, 8, 8), 10, 1) for _ in range(2))
    log = RowAccessLog.empty(70)
    numbers, cost = training.train(model, data.logged_in(log), settings, stream(5))
    draw = stream(5)
    optimiser = (
        torch.optim.Adam(plain.parameters(), lr=1e-2, weight_decay=1e-3)
        if settings.optimizer == "adam"
        else torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    )
    for _ in range(settings.epochs):
        losses = 0.0
        order = torch.randperm(70, generator=draw)
        for batch in order.split(32):
            optimiser.zero_grad()
            x = (data.x[batch].float() / 255).contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(plain(x).logits, data.y[batch])
            loss.backward()
            optimiser.step()
            losses += float(loss.detach()) * len(batch)
    for trained, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(trained, expected)
    assert numbers["loss"] == pytest.approx(losses / 70)
    assert cost.gradient_passes == int(log.labels) == 70 * settings.epochs


def test_augmentation_crops_and_flips_each_row_by_its_own_draw() -> None:
    data = rows(200, (3, 32, 32)).x
    assert torch.equal(training.augmented(data, "none", stream()), data)
    changed = training.augmented(data, "crop_flip", stream())
    assert changed.shape == data.shape
    assert changed.dtype == torch.uint8
    draw = stream()
    top, left = (torch.randint(0, 9, (200,), generator=draw) for _ in range(2))
    flip = torch.randint(0, 2, (200,), generator=draw).bool()
    assert 50 < int(flip.sum()) < 150
    for i in range(200):
        padded = functional.pad(data[i], (4, 4, 4, 4))
        crop = padded[:, top[i] : top[i] + 32, left[i] : left[i] + 32]
        assert torch.equal(changed[i], crop.flip(2) if flip[i] else crop)


def test_positions_of_a_client_that_leaves_and_of_one_that_stays() -> None:
    assert positions(RowSplit((1, 3), (0,)), 5) == ((1, 3), (0, 1, 3))
    assert positions(RowSplit((), (0, 2), withdraws=True), 4) == ((1, 3), (0, 1, 2, 3))
    assert positions(RowSplit(), 4) == ((), ())


def task(model: str, retain: int, forget: int) -> Task:
    spec, shape = {
        "cnn": (Cnn(), (1, 28, 28)),
        "resnet": (ResNet18(), (3, 16, 16)),
    }[model]
    built = spec.build(shape, 10, 0)
    sides = [rows(count, shape, seed).unlabelled() for seed, count in enumerate((retain, forget))]
    teacher = [representations.representations(built.extractor, side, 256) for side in sides]
    vaes = [build_vae(256, 4, "linear", seed) for seed in (1, 2)]
    weights = [torch.ones(len(side)) for side in sides]
    kinds = [Side(*kind) for kind in zip(sides, teacher, weights, strict=True)]
    return Task(built.extractor, vaes[0], vaes[1], kinds[0], kinds[1])


@pytest.mark.parametrize("model", ["cnn", "resnet"])
@pytest.mark.parametrize("sizes", [(12, 12), (12, 0), (0, 12)], ids=["both", "retain", "forget"])
def test_forgetting_moves_the_extractors_parameters_and_nothing_else(
    model: str, sizes: tuple[int, int]
) -> None:
    work = task(model, *sizes)
    before = {k: v.clone() for k, v in work.extractor.state_dict().items()}
    vaes = [{k: v.clone() for k, v in vae.state_dict().items()} for vae in (work.h, work.h_f)]
    settings = Forget(lr_unlearning=1e-3, lr_alignment=1e-3, batch_size=4, steps=2, latent=4, sampled=True)
    numbers, cost = laf_loop.forget(work, settings, stream(1), stream(2))
    parameters = {name for name, _ in work.extractor.named_parameters()}
    for name, tensor in work.extractor.state_dict().items():
        if name in parameters:
            assert not torch.equal(tensor, before[name]), name
        else:  # BatchNorm's running statistics are the teacher's
            assert torch.equal(tensor, before[name]), name
    for vae, kept in zip((work.h, work.h_f), vaes, strict=True):
        assert all(torch.equal(tensor, kept[name]) for name, tensor in vae.state_dict().items())
        assert all(p.grad is None for p in vae.parameters())
    both = bool(sizes[0]) + bool(sizes[1])
    assert cost.gradient_passes == 2 * 2 * 4 * both  # two losses, two steps, batches of four
    assert {"unlearning", "alignment"} <= numbers.keys()


@pytest.mark.parametrize(("rate_u", "rate_a"), [(0, 1e-3), (1e-3, 0)])
def test_a_rate_of_zero_leaves_its_loss_out(rate_u: float, rate_a: float) -> None:
    settings = Forget(lr_unlearning=rate_u, lr_alignment=rate_a, batch_size=4, steps=2, latent=4)
    numbers, cost = laf_loop.forget(task("cnn", 8, 8), settings, stream(), stream())
    assert ("unlearning" in numbers) == (rate_u > 0)
    assert ("alignment" in numbers) == (rate_a > 0)
    assert cost.gradient_passes == 2 * 8


def test_recovery_uses_retain_rows_only() -> None:
    settings = Forget(lr_unlearning=0, lr_alignment=1e-3, batch_size=4, steps=3, sides="retain", latent=4)
    with_, without = task("cnn", 8, 8), task("cnn", 8, 0)
    _, cost = laf_loop.forget(with_, settings, stream(), stream())
    laf_loop.forget(without, settings, stream(), stream())
    assert cost.gradient_passes == 3 * 4
    for one, other in zip(with_.extractor.parameters(), without.extractor.parameters(), strict=True):
        assert torch.equal(one, other)


def test_teacher_representations_are_those_of_the_extractor_in_evaluation_mode() -> None:
    model = ResNet18().build((3, 16, 16), 10, 0).train()
    data = rows(300, (3, 16, 16)).unlabelled()
    found = representations.representations(model.extractor, data, 256)
    with torch.no_grad():
        expected = model.eval()(data.x.float() / 255).representation
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert representations.representations(model.extractor, Rows(data.x[:0]), 256).shape == (0, 256)


def test_unusual_rows_weigh_more_and_the_mean_weight_is_one() -> None:
    stream_ = stream()
    usual = torch.randn(500, 16, generator=stream_)
    usual[:, 4:] = usual[:, :4].repeat(1, 3)  # rows that live in four dimensions
    unusual = torch.randn(20, 16, generator=stream_) * 3
    h = build_vae(16, 4, "linear", 0)
    representations.fit_vae(h, usual, Represent(latent=4, lr=3e-3), 30, stream_)
    weights = Forget(weighting="oddness", latent=4).weights(torch.cat([usual[:60], unusual]), h)
    assert float(weights.mean()) == pytest.approx(1, abs=1e-5)
    assert float(weights[60:].mean()) > 3 * float(weights[:60].mean())
    assert torch.equal(Forget(weighting="none").weights(unusual, h), torch.ones(20))


def test_a_vae_learns_what_it_is_shown() -> None:
    data = torch.randn(400, 16, generator=stream()) @ torch.randn(16, 16, generator=stream(1)) / 4
    vae = build_vae(16, 8, "linear", 0)
    first, passes = representations.fit_vae(vae, data, Represent(latent=8, lr=3e-3), 1, stream())
    later, _ = representations.fit_vae(vae, data, Represent(latent=8, lr=3e-3), 40, stream(2))
    assert later < first / 2
    assert passes == 400


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, this machine has none")
def test_a_gpu_comes_to_the_cpus_result() -> None:
    found = []
    for device in ("cpu", "cuda"):
        spec = replace(small_spec(3, rows=300), device=device)
        grid, registry = enrolled(spec)
        weights = FedAvg(rounds=1).run(grid, initial_weights(spec), Stage("train", 0, registry)).weights
        asked = replace(registry, request=ForgetRequest.of_clients([0], registry.sizes))
        method = PublishedLaf(represent_rounds=1, forget_rounds=1, forget_steps=2)
        found += [weights, method.run(grid, initial_weights(spec), Stage("r", 0, asked)).weights]
    assert furthest(found[0], found[2]) < 1e-3
    assert furthest(found[1], found[3]) < 5e-3
