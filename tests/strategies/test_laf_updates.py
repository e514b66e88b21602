"""How L_UE and L_RA share the steps: one after the other, on their sum, or in two stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from support.federations import enrolled, furthest, initial_weights, same_bits, small_spec
from torch import Tensor

from fedlaf.client.batches import steps
from fedlaf.client.steps import laf_loop, representations
from fedlaf.client.steps.laf_loop import Side, Task
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.data import Rows, as_input
from fedlaf.method.contract import ClientRegistry, OnRound, Stage, StageResult
from fedlaf.models import SmallCnn, Vae, build_vae
from fedlaf.models.arrays import weights_of
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.strategies.base.phase import Phase, Who
from fedlaf.strategies.laf_published import PublishedLaf

FORGET = Forget(
    lr_unlearning=2e-3, lr_alignment=3e-3, temperature=0.7, batch_size=8, steps=4, latent=4,
    sampled=True, updates="joint",
)  # fmt: skip
SIZES = dict.fromkeys(range(4), 100)
REQUEST = ForgetRequest.of_samples({0: range(100), 2: range(60, 100)}, SIZES)


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def task(retain: int = 30, forget: int = 20) -> Task:
    """A small extractor with rows of both kinds, weighted."""
    extractor = SmallCnn().build((1, 8, 8), 10, 0).extractor
    sides = []
    for seed, count in enumerate((retain, forget)):
        rows = Rows(torch.randint(0, 256, (count, 1, 8, 8), generator=stream(seed), dtype=torch.uint8))
        teacher = representations.representations(extractor, rows, 32)
        sides.append(Side(rows, teacher, torch.linspace(0.5, 1.5, count)))
    return Task(extractor, build_vae(32, 4, "linear", 1), build_vae(32, 4, "linear", 2), *sides)


def phi(vae: Vae, e: Tensor, noise: Tensor) -> Tensor:
    hidden = vae.encoder(e)
    z = vae.mean(hidden) + torch.exp(0.5 * vae.log_variance(hidden)) * noise
    m = (vae.decoder(z) - e).square().mean(1)
    return torch.exp(m / (m + 1.0))


Pair = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor, Pair], Tensor]


def losses_of(work: Task, noise: torch.Generator) -> dict[str, Loss]:
    """Both losses of the paper, for student representations of one batch of either kind."""
    weights = work.forget.weights

    def unlearning(s_r: Tensor, s_f: Tensor, batch: Pair) -> Tensor:
        retain = phi(work.h, s_r, torch.randn(len(s_r), 4, generator=noise))
        forget = phi(work.h_f, s_f, torch.randn(len(s_f), 4, generator=noise))
        return retain.sum() - (weights[batch[1]] * forget).sum()

    def alignment(s_r: Tensor, s_f: Tensor, batch: Pair) -> Tensor:
        sides = ((s_r, work.retain.teacher[batch[0]]), (s_f, work.forget.teacher[batch[1]]))
        d_r, d_f = (1 - torch.cosine_similarity(s, e, dim=1) for s, e in sides)
        exponent = d_f / FORGET.temperature + torch.log(weights[batch[1]])
        return d_r.sum() - len(d_r) * torch.logsumexp(exponent, dim=0)

    return {"unlearning": unlearning, "alignment": alignment}


def drawn(work: Task) -> list[Pair]:
    first = stream(5)
    second = stream(int(torch.randint(2**62, (1,), generator=first)))
    sizes = len(work.retain.rows), len(work.forget.rows)
    pairs = (steps(n, 8, 4, s) for n, s in zip(sizes, (first, second), strict=True))
    return list(zip(*pairs, strict=True))


def plain_step(work: Task, batch: Pair, adam: torch.optim.Optimizer, *terms: Loss) -> None:
    """One step on the sum of `terms`, from one forward pass."""
    x = torch.cat([work.retain.rows.x[batch[0]], work.forget.rows.x[batch[1]]])
    both = work.extractor(as_input(x, torch.device("cpu")))
    s_r, s_f = both[: len(batch[0])], both[len(batch[0]) :]
    adam.zero_grad()
    sum(term(s_r, s_f, batch) for term in terms).backward()  # type: ignore[union-attr]
    adam.step()


# ---- joint


def test_joint_takes_one_step_of_the_alignments_adam_on_the_sum() -> None:
    found, plain = task(), task()
    before = weights_of(plain.extractor)
    numbers, _ = laf_loop.forget(found, FORGET, stream(5), stream(6))
    adam = torch.optim.Adam(plain.extractor.parameters(), lr=3e-3)
    terms = losses_of(plain, stream(6))
    for batch in drawn(plain):
        plain_step(plain, batch, adam, *terms.values())
    # Terms added in another order leave only rounding.
    assert furthest(weights_of(found.extractor), weights_of(plain.extractor)) < 1e-6
    assert furthest(weights_of(found.extractor), before) > 5e-3
    assert set(numbers) == {"joint", "distance_retain", "distance_forget"}


def test_alternate_takes_a_step_on_either_and_so_ends_elsewhere() -> None:
    found, plain, joint = task(), task(), task()
    numbers, _ = laf_loop.forget(found, replace(FORGET, updates="alternate"), stream(5), stream(6))
    rates = {"unlearning": 2e-3, "alignment": 3e-3}
    adams = {n: torch.optim.Adam(plain.extractor.parameters(), lr=r, fused=True) for n, r in rates.items()}
    terms = losses_of(plain, stream(6))
    for batch in drawn(plain):
        for name, adam in adams.items():
            plain_step(plain, batch, adam, terms[name])
    assert same_bits(weights_of(found.extractor), weights_of(plain.extractor))
    assert set(numbers) == {"unlearning", "alignment", "distance_retain", "distance_forget"}
    laf_loop.forget(joint, FORGET, stream(5), stream(6))
    assert furthest(weights_of(found.extractor), weights_of(joint.extractor)) > 1e-3


@pytest.mark.parametrize("sizes", [(30, 20), (30, 0), (0, 20)], ids=["both", "retain", "forget"])
def test_joint_counts_half_the_passes(sizes: tuple[int, int]) -> None:
    passes = {}
    for updates in ("joint", "alternate"):
        settings = replace(FORGET, updates=updates)
        work = task(*sizes)
        _, cost = laf_loop.forget(work, settings, stream(5), stream(6))
        assert all(bool(torch.isfinite(p).all()) for p in work.extractor.parameters())
        passes[updates] = cost.gradient_passes
    rows = sum(len(side) for batch in drawn(task(*sizes)) for side in batch)
    assert passes == {"joint": rows, "alternate": 2 * rows}


# ---- two stages


def laf(updates: str, kind: type[PublishedLaf] = PublishedLaf, **more: Any) -> PublishedLaf:
    return kind(
        represent=Represent(latent=4), represent_rounds=1, forget=replace(FORGET, updates=updates, steps=2),
        forget_steps=2, forget_rounds=3, recover_rounds=0, closing_rounds=0, **more,
    )  # fmt: skip


def forget_phases(method: PublishedLaf) -> list[Any]:
    return [p for p in method.phases(ClientRegistry({}, SIZES, REQUEST)) if p.step == "forget"]


def test_two_stages_are_two_phases_of_one_loss_each() -> None:
    unlearn, align = forget_phases(laf("two_stage"))
    assert (unlearn.name, unlearn.rounds, unlearn.who) == ("unlearn", 3, Who.BOTH)
    assert (align.name, align.rounds, align.who) == ("align", 3, Who.BOTH)
    alone = replace(FORGET, updates="alternate", steps=2)
    assert unlearn.settings == replace(alone, lr_alignment=0.0)
    assert align.settings == replace(alone, lr_unlearning=0.0)


@pytest.mark.parametrize("updates", ["alternate", "joint"])
def test_the_others_are_one_phase(updates: str) -> None:
    (phase,) = forget_phases(laf(updates))
    assert (phase.name, phase.rounds) == ("forget", 3)
    assert phase.settings == replace(FORGET, updates=updates, steps=2)


def run(method: PublishedLaf, on_round: OnRound | None = None) -> StageResult:
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    stage = Stage("request-1", 0, replace(registry, request=REQUEST), on_round=on_round)
    return method.run(grid, initial_weights(spec), stage)


def test_in_a_federation_each_reports_its_own_losses_and_passes() -> None:
    found = {updates: run(laf(updates)) for updates in ("alternate", "joint", "two_stage")}
    records = {
        u: [r for r in o.records if r.phase in ("forget", "unlearn", "align")] for u, o in found.items()
    }
    losses = {"unlearning", "alignment", "joint"}
    reported = {u: [(r.phase, sorted(losses & set(r.numbers))) for r in of] for u, of in records.items()}
    assert reported == {
        "alternate": [("forget", ["alignment", "unlearning"])] * 3,
        "joint": [("forget", ["joint"])] * 3,
        "two_stage": [("unlearn", ["unlearning"])] * 3 + [("align", ["alignment"])] * 3,
    }
    passes = {u: sum(r.cost.gradient_passes for r in of) for u, of in records.items()}
    assert passes["alternate"] == passes["two_stage"] == 2 * passes["joint"] > 0
    for one, other in combinations([result.weights for result in found.values()], 2):
        assert furthest(one, other) > 1e-3


class FirstStage(PublishedLaf):
    """Forgetting in a phase with the first stage's name, since the name is part of the random streams."""

    def forgetting(self, registry: ClientRegistry) -> Sequence[Phase]:
        return [replace(phase, name="unlearn") for phase in super().forgetting(registry)]


def test_two_stages_are_forgetting_by_one_loss_then_by_the_other() -> None:
    """The first stage is forgetting with alignment left out; the second goes on from there."""
    both = laf("two_stage", forget_share=0.4)
    alone = replace(FORGET, updates="alternate", lr_alignment=0.0, steps=2, temperature=1.0)
    after: dict[str, Weights] = {}
    staged = run(both, lambda record, now: after.update({record.phase: now}))
    assert same_bits(run(FirstStage(**vars(replace(both, forget=alone)))).weights, after["unlearn"])
    assert same_bits(staged.weights, after["align"])
    assert furthest(after["unlearn"], after["align"]) > 1e-3


def test_no_two_rounds_of_the_stages_draw_the_same_batches_or_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[tuple[int, ...]]] = {}
    real = laf_loop.forget

    for updates in ("alternate", "two_stage"):
        states = drawn.setdefault(updates, [])

        def watched(task, settings, rows, noise, states=states):  # type: ignore[no-untyped-def]
            states.append((rows.initial_seed(), noise.initial_seed()))
            return real(task, settings, rows, noise)

        monkeypatch.setattr(laf_loop, "forget", watched)
        run(laf(updates))
    once, twice = drawn["alternate"], drawn["two_stage"]
    assert len(once) == len(set(once)) == 3 * 4
    assert len(twice) == len(set(twice)) == 2 * 3 * 4
