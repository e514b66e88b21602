"""LAF with targets: who is asked for what, and what never moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message
from support.federations import RecordingGrid, enrolled, same_bits, small_spec
from support.plain_laf import SEED, STAGE, trained

from fedlaf.client.runtime import ClientSpec
from fedlaf.client.steps import targets
from fedlaf.client.steps.targets import Targets
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.data import Rows
from fedlaf.method.contract import ClientRegistry, Stage, StageResult
from fedlaf.models import ResNet18
from fedlaf.models.arrays import weights_of
from fedlaf.objectives.laf import Represent
from fedlaf.objectives.laf_targets import Alignment, TargetRule
from fedlaf.protocol.messages import Part
from fedlaf.strategies.base.phase import Phase, Who
from fedlaf.strategies.laf_adam import LafAdam

SIZES = dict.fromkeys(range(4), 100)
REPRESENT = Represent(latent=4, rows="retain", epochs=3, most_rows=None)
ALIGN = Alignment(batch_size=16, steps=5)
METHOD = LafAdam(
    represent=REPRESENT,
    represent_rounds=1,
    target_rule=TargetRule(strength=0.5, negative_weight=0.2),
    align=ALIGN,
    warmup_steps=3,
    align_rounds=1,
)


def run(
    method: LafAdam, spec: ClientSpec, weights: Weights, request: ForgetRequest,
    tamper: Callable[[Message], Message | None] | None = None,
) -> tuple[StageResult, RecordingGrid]:  # fmt: skip
    grid, registry = enrolled(spec)
    wire = RecordingGrid(grid, tamper=tamper)
    stage = Stage(STAGE, SEED, replace(registry, request=request))
    return method.run(wire, weights, stage), wire


@pytest.fixture(scope="module")
def four() -> tuple[ClientSpec, Weights]:
    """Four clients and what they trained together."""
    spec = small_spec(4)
    return spec, trained(spec)


# ---- which phases, who is asked


def phases(method: LafAdam) -> list[Phase]:
    request = ForgetRequest.of_samples({0: range(100), 2: [4]}, SIZES)
    return list(method.phases(ClientRegistry({}, SIZES, request)))


def test_forgetting_clients_warm_up_then_all_align() -> None:
    found = [(p.name, p.step, p.rounds, p.who) for p in phases(METHOD)]
    assert found[-5:] == [
        ("score", "score", 1, Who.RETAIN),
        ("assign_targets", "assign_targets", 1, Who.FORGET),
        ("apply_logit_shift", "apply_logit_shift", 1, Who.BOTH),
        ("warmup", "align", 1, Who.FORGET),
        ("align", "align", 1, Who.BOTH),
    ]
    warmup, align = phases(METHOD)[-2:]
    assert (warmup.settings, align.settings) == (replace(ALIGN, steps=3), ALIGN)
    assert all(phase.strict for phase in phases(METHOD))


def test_without_warmup_steps_there_is_no_such_phase() -> None:
    with_, without = ([p.name for p in phases(replace(METHOD, warmup_steps=n))] for n in (3, 0))
    assert without == [name for name in with_ if name != "warmup"]


def test_settings_of_h_are_those_of_the_density() -> None:
    represent = Represent(density="vae", latent=3, decoder="sigmoid", error="sum")
    settings = [p.settings for p in phases(LafAdam(represent)) if p.name in ("score", "assign_targets")]
    expected = TargetRule(latent=3, decoder="sigmoid", error="sum", density="vae")
    assert settings == [expected, expected]


REQUESTS = {
    "one client leaves": {0: range(100)},
    "a client forgets and keeps": {0: range(30)},
    "several, one of them whole": {0: range(100), 2: range(10, 70)},
    "all forget a part": {k: range(5 * k, 5 * k + 30) for k in range(4)},
    "one row": {1: [5]},
}


@pytest.mark.parametrize("rows", REQUESTS.values(), ids=REQUESTS.keys())
def test_whoever_forgets_what_only_the_extractor_moves(
    rows: dict[int, Any], four: tuple[ClientSpec, Weights]
) -> None:
    spec, weights = four
    result, _ = run(METHOD, spec, weights, ForgetRequest.of_samples(rows, SIZES))
    asked = {record.phase: record.asked for record in result.records}
    remaining = tuple(k for k in range(4) if len(rows.get(k, ())) < 100)
    assert asked["score"] == asked["represent"] == remaining
    assert asked["assign_targets"] == asked["warmup"] == tuple(rows)
    assert asked["teach"] == asked["apply_logit_shift"] == asked["align"] == (0, 1, 2, 3)
    assert result.cost.labels_read == 0
    for name, array in result.weights.items():
        assert np.isfinite(array).all()
        assert np.array_equal(array, weights[name]) == name.startswith("head.")


def test_the_warmup_is_taken_by_the_forgetting_clients_alone(four: tuple[ClientSpec, Weights]) -> None:
    """One that forgets all it has aligns its targets only, and the result is its extractor."""
    spec, weights = four
    before: list[Weights] = []
    grid, registry = enrolled(spec)
    request = ForgetRequest.of_clients([0], SIZES)
    stage = Stage(
        STAGE, SEED, replace(registry, request=request),
        on_round=lambda record, now: before.append(now) if record.phase == "warmup" else None,
    )  # fmt: skip
    wire = RecordingGrid(grid)
    METHOD.run(wire, weights, stage)
    (after,) = before
    replies = [m for m in wire.replies if Part.EXTRACTOR in m.content.array_records]
    assert len(replies) == 1 + 4
    arrays = replies[0].content.array_records[Part.EXTRACTOR]
    assert same_bits(
        {k: v.numpy() for k, v in arrays.items()},
        {k.removeprefix("extractor."): v for k, v in after.items() if k.startswith("extractor.")},
    )


def test_retain_clients_count_all_their_rows_by_those_they_use(four: tuple[ClientSpec, Weights]) -> None:
    """Of 100 and of 60 retain rows 25 are used: their classes, as many times over."""
    spec, weights = four
    method = replace(METHOD, represent=replace(REPRESENT, most_rows=25))
    _, wire = run(method, spec, weights, ForgetRequest.of_samples({0: range(40)}, SIZES))
    found = [
        m.content.array_records[Part.PREDICTED_COUNTS]["predicted_counts"].numpy()
        for m in wire.replies
        if m.metadata.message_type == "train.score"
    ]
    assert [float(counts.sum()) for counts in found] == pytest.approx([60, 100, 100, 100])
    for counts, whole in zip(found, (60, 100, 100, 100), strict=True):
        of_used = counts * 25 / whole
        np.testing.assert_allclose(of_used, of_used.round(), atol=1e-9)


# ---- a client's steps


@pytest.mark.parametrize("sizes", [(6, 6), (6, 0), (0, 6)], ids=["both", "retain", "forget"])
def test_alignment_leaves_batch_norm_alone(sizes: tuple[int, int]) -> None:
    extractor = ResNet18(8).build((3, 16, 16), 4, 0).extractor.train()
    before = weights_of(extractor)
    stream = torch.Generator().manual_seed(1)
    sides = [
        Targets(
            Rows(torch.randint(0, 256, (n, 3, 16, 16), generator=stream, dtype=torch.uint8)),
            torch.randn(n, 8, generator=stream),
        )
        for n in sizes
    ]
    numbers, cost = targets.toward(extractor, (sides[0], sides[1]), Alignment(batch_size=3, steps=2), stream)
    after, parameters = weights_of(extractor), {name for name, _ in extractor.named_parameters()}
    assert len(parameters) < len(before)  # there are running statistics
    assert {k for k in before if not np.array_equal(before[k], after[k])} == parameters
    assert cost.gradient_passes == 2 * 3 * sum(n > 0 for n in sizes)
    sides_named = {"distance_to_target_retain": sizes[0], "distance_to_target_forget": sizes[1]}
    assert set(numbers) == {name for name, n in sides_named.items() if n}


@pytest.mark.parametrize("step", ["score", "assign_targets", "apply_logit_shift", "align"])
def test_a_reply_that_is_lost_once_changes_nothing(step: str, four: tuple[ClientSpec, Weights]) -> None:
    """The client is asked again, having done the work already."""
    spec, weights = four
    request = ForgetRequest.of_samples({0: range(60), 2: range(30)}, SIZES)
    lost: list[Message] = []

    def tamper(reply: Message) -> Message | None:
        asked_again = reply.metadata.message_type == f"train.{step}" and reply.metadata.src_node_id == 1001
        if asked_again and not lost:
            lost.append(reply)
            return None
        return reply

    plain, _ = run(METHOD, spec, weights, request)
    again, _ = run(METHOD, spec, weights, request, tamper)
    assert lost
    assert same_bits(again.weights, plain.weights)
