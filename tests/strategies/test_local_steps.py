"""The methods that LAF is compared with, whole, on the digits: who works, what it costs, what is seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from support.federations import RecordingGrid, enrolled, initial_weights, same_bits, small_spec
from test_laf_privacy import GarbageLabels

from fedlaf.client.runtime import ClientSpec, resident_model
from fedlaf.client.steps.local_objectives import Side, steps
from fedlaf.client.steps.teachers import across, incompetent
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.data import Digits, Iid, LabelledRows, Rows
from fedlaf.data.federation import build
from fedlaf.method.contract import MethodInputs, Need, Stage, StageResult
from fedlaf.models import SmallCnn
from fedlaf.objectives.classification import Fit
from fedlaf.objectives.logit_objectives import (
    DistilBoth,
    FedOsdGradients,
    Hold,
    NegGrad,
    Push,
    RandomTeacherLogits,
    Shrink,
    TeacherLogits,
    Unroll,
)
from fedlaf.protocol.messages import Part
from fedlaf.strategies.bad_teacher import BadTeacher
from fedlaf.strategies.base.strategy import ForgetStrategy
from fedlaf.strategies.boundary import Boundary
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.fedosd import FedOsd
from fedlaf.strategies.gradient_ascent import GradientAscent
from fedlaf.strategies.scrub import Scrub
from fedlaf.strategies.unroll import SingleGradient

SIZES = dict.fromkeys(range(4), 100)
RECOVER = Fit(lr=1e-3, labels=0.5)
SGD = {"optimizer": "sgd", "lr": 0.01, "batch_size": 16, "steps": 2}


@dataclass(frozen=True)
class Case:
    """A method; for client 0 leaving: its passes with and without gradient, labels read, who is asked."""

    method: ForgetStrategy
    gradient: int
    forward: int
    labels: int
    asked: dict[str, tuple[int, ...]]


ALL, ONLINE, OTHERS = (0, 1, 2, 3), (0,), (1, 2, 3)
CASES = {
    "gradient_ascent": Case(
        GradientAscent(ascend=NegGrad(**SGD, clip=1.0), recover=RECOVER),
        32 + 150, 0, 32 + 150, {"ascend": ONLINE, "recover": OTHERS},
    ),
    "scrub": Case(
        Scrub(teacher_logits=TeacherLogits(share=0.4), push=Push(**SGD), hold=Hold(lr=1e-3), push_rounds=1, hold_rounds=2),
        32 + 2 * 120, 100 + 120, 2 * 120,
        {"teacher_logits": ALL, "push 1": ONLINE, "hold 1": OTHERS, "hold": OTHERS},
    ),
    "bad_teacher": Case(
        BadTeacher(random_teacher_logits=RandomTeacherLogits(share=0.4), distil=DistilBoth(lr=1e-3), rounds=1),
        100 + 120, 100 + 120, 0, {"random_teacher_logits": ALL, "distil": ALL},
    ),
    "boundary": Case(
        Boundary(shrink=Shrink(**SGD), recover=RECOVER, shrink_rounds=2),
        100 + 64 + 150, 100, 100 + 150, {"adversarial_relabel": ONLINE, "shrink": ONLINE, "recover": OTHERS},
    ),
    "unroll": Case(SingleGradient(eta=0.05, unroll=Unroll(16)), 100, 0, 100, {"unroll": ONLINE}),
    "fedosd": Case(
        FedOsd(fedosd_gradients=FedOsdGradients(share=0.2), gradient_rounds=2, recover=RECOVER),
        2 * 80 + 150, 0, 2 * 80 + 150, {"fedosd_gradients": ALL, "recover": OTHERS},
    ),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", CASES)
LEAVES = ForgetRequest.of_clients([0], SIZES)


@cache
def trained() -> tuple[ClientSpec, Weights]:
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    fit = FedAvg(rounds=2, fit=Fit(lr=3e-3))
    return spec, fit.run(grid, initial_weights(spec), Stage("train", 0, registry)).weights


def run(
    method: ForgetStrategy, request: ForgetRequest = LEAVES, spec: ClientSpec | None = None
) -> tuple[StageResult, RecordingGrid]:
    usual, weights = trained()
    grid, registry = enrolled(spec or usual)
    wire = RecordingGrid(grid)
    stage = Stage(
        "request-1", 0, replace(registry, request=request), inputs=MethodInputs(initial_weights(usual))
    )
    return method.run(wire, weights, stage), wire


@EACH
def test_a_client_leaves(name: str) -> None:
    """The model changes, keeps its form, and the ledger is what was done."""
    case = CASES[name]
    outcome, _ = run(case.method)
    _, before = trained()
    assert list(outcome.weights) == list(before)
    for key, array in outcome.weights.items():
        assert (array.dtype, array.shape) == (before[key].dtype, before[key].shape)
        assert np.isfinite(array).all()
        assert not np.array_equal(array, before[key])
    cost = outcome.cost
    assert (cost.gradient_passes, cost.forward_passes) == (case.gradient, case.forward)
    assert cost.labels_read == case.labels
    assert {record.phase: record.asked for record in outcome.records} == case.asked
    assert (Need.LABELS in case.method.needs) == (case.labels > 0)
    assert (Need.ONLINE in case.method.needs) == (0 in {k for r in outcome.records for k in r.asked})


@EACH
def test_the_same_request_gives_the_same_bits_again(name: str) -> None:
    first, second = (run(CASES[name].method)[0].weights for _ in range(2))
    assert same_bits(first, second)


REQUESTS = {
    "some rows of some": ForgetRequest.of_samples({0: range(30), 2: [5]}, SIZES),
    "some rows of all": ForgetRequest.of_samples({k: range(k, k + 20) for k in range(4)}, SIZES),
    "all of one, some of another": ForgetRequest.of_samples({0: range(100), 2: range(9)}, SIZES),
}


@EACH
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_whoever_forgets_whatever(name: str, request_: ForgetRequest) -> None:
    outcome, _ = run(CASES[name].method, request_)
    remaining = tuple(k for k in range(4) if len(request_.of(k)) < 100)
    who = {ONLINE: request_.clients, OTHERS: remaining, ALL: ALL}
    for record in outcome.records:
        assert record.asked == who[CASES[name].asked[record.phase]]
    assert not same_bits(outcome.weights, trained()[1])


def noisy(seed: int) -> ClientSpec:
    return small_spec(4, source=GarbageLabels(seed), backdoor=None, partition=Iid())


@EACH
def test_only_what_reads_labels_depends_on_them(name: str) -> None:
    plain = small_spec(4, source=Digits(train_rows=400, test_rows=100), backdoor=None, partition=Iid())
    found = [run(CASES[name].method, spec=spec)[0].weights for spec in (plain, noisy(1), noisy(2))]
    free = CASES[name].labels == 0
    assert same_bits(found[0], found[1]) == same_bits(found[0], found[2]) == free


UP = {
    "train.neggrad": {Part.MODEL}, "train.fit": {Part.MODEL}, "train.push": {Part.MODEL},
    "train.hold": {Part.MODEL}, "train.distil": {Part.MODEL}, "train.shrink": {Part.MODEL},
    "train.teacher_logits": set(), "train.random_teacher_logits": set(), "train.adversarial_relabel": set(),
    "train.fedosd_gradients": {Part.RETAIN_GRADIENT, Part.FORGET_GRADIENT},
    "train.unroll": {Part.FORGET_GRADIENT},
}  # fmt: skip


@EACH
@pytest.mark.parametrize("request_", [LEAVES, REQUESTS["some rows of some"]], ids=["client", "samples"])
def test_nothing_but_models_gradients_and_numbers_crosses_the_wire(
    name: str, request_: ForgetRequest
) -> None:
    _, wire = run(CASES[name].method, request_)
    spec, before = trained()
    shapes = {key: array.shape for key, array in before.items()}
    pixels = build(spec.federation).client(0).rows.x[0].numpy().tobytes()
    assert {set(m.content.array_records) == {Part.MODEL} for m in wire.sent} == {True}
    for message in wire.replies:
        assert not message.content.config_records
        assert set(message.content.array_records) <= UP[Action(message.metadata.message_type)]
        for record in message.content.array_records.values():
            assert {key: array.shape for key, array in record.items()} == shapes
            assert pixels not in b"".join(array.data for array in record.values())
        (numbers,) = message.content.metric_records.values()
        assert all(isinstance(number, float) for number in numbers.values())


@EACH
def test_a_withdrawn_client_gets_no_message_after_its_request_is_done(name: str) -> None:
    spec, weights = trained()
    grid, registry = enrolled(spec)
    wire = RecordingGrid(grid)
    given = MethodInputs(initial_weights(spec))
    method = CASES[name].method
    asked = replace(registry, request=LEAVES)
    left = method.run(wire, weights, Stage("request-1", 0, asked, inputs=given)).weights
    assert registry.nodes[0] in {m.metadata.dst_node_id for m in wire.sent}
    wire.sent.clear()
    again = replace(registry, removed=LEAVES, request=ForgetRequest.of_samples({2: [1, 2, 3]}, SIZES))
    method.run(wire, left, Stage("request-2", 0, again, inputs=given))
    assert wire.sent
    assert registry.nodes[0] not in {m.metadata.dst_node_id for m in wire.sent}


# ---- the loop and its teachers


def test_a_method_without_a_teacher_does_not_take_up_what_another_left() -> None:
    """Scrub leaves logits of a share of the rows; ascent after it on the same grid is ascent alone."""
    spec, weights = trained()
    grid, registry = enrolled(spec)
    stage = Stage(
        "request-1", 0, replace(registry, request=LEAVES), inputs=MethodInputs(initial_weights(spec))
    )
    ascent = CASES["gradient_ascent"].method
    alone = ascent.run(grid, weights, stage).weights
    CASES["scrub"].method.run(grid, weights, stage)
    assert same_bits(ascent.run(grid, weights, stage).weights, alone)


def rows(count: int) -> LabelledRows:
    draw = torch.Generator().manual_seed(3)
    x = torch.randint(0, 256, (count, 1, 8, 8), generator=draw, dtype=torch.uint8)
    return LabelledRows(x, torch.randint(0, 10, (count,), generator=draw))


def test_the_loop_is_the_obvious_one() -> None:
    retain, forget = rows(40).unlabelled(), Rows(rows(60).x[40:])
    teachers = [
        torch.randn(len(side), 10, generator=torch.Generator().manual_seed(5)) for side in (retain, forget)
    ]
    model, plain = (SmallCnn().build((1, 8, 8), 10, 1) for _ in range(2))
    settings = DistilBoth(optimizer="sgd", lr=0.5, momentum=0.9, batch_size=64, steps=3, clip=0.1)
    kinds = (Side(retain, teachers[0]), Side(forget, teachers[1]))
    _, cost = steps(model, kinds, settings, torch.Generator().manual_seed(7))
    assert cost.gradient_passes == 3 * 60  # batches hold all rows, in some order
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.5, momentum=0.9)
    both, targets = torch.cat([retain.x, forget.x]).float() / 255, torch.cat(teachers).softmax(1)
    for _ in range(3):
        loss = torch.nn.functional.kl_div(plain(both).logits.log_softmax(1), targets, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        optimiser.step()
    for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_nearest_wrong_class_of_a_linear_model_is_found_across_the_boundary() -> None:
    """Two pixels and three classes, logits Wx: the step changes each pixel by epsilon towards the loss."""

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([[3.0, 0.0], [0.0, 3.0], [1.0, 1.0]]))

        def forward(self, x: torch.Tensor) -> object:
            logits = x.flatten(1) @ self.weight.T
            return type("Out", (), {"logits": logits})

    x = torch.tensor([[[[204, 51]]]], dtype=torch.uint8)  # 0.8, 0.2: logits 2.4, 0.6, 1.0
    moved = across(Linear(), LabelledRows(x, torch.tensor([0])), 0.5)  # type: ignore[arg-type]
    least = torch.finfo(torch.float32).min
    assert moved[0].tolist() == pytest.approx([least, 3 * 0.7, 0.3 + 0.7])  # at 0.3, 0.7
    retain = across(Linear(), LabelledRows(x, torch.tensor([0])), 0.1)  # type: ignore[arg-type]
    assert (moved.argmax(1).item(), retain.argmax(1).item()) == (1, 2)


def test_the_incompetent_teacher_is_one_for_all_clients_of_a_request() -> None:
    class Told:
        seed, stage = 0, "request-1"

    class ClientContext:
        def __init__(self, client: int, stage: str) -> None:
            self.spec, self.device, self.told = trained()[0], torch.device("cpu"), Told()
            self.told.stage = stage
            self.model, self.data = resident_model(self.spec), build(self.spec.federation).client(client)

    first, second, other = (
        incompetent(ClientContext(client, stage)).head.weight  # type: ignore[arg-type,union-attr]
        for client, stage in ((0, "request-1"), (1, "request-1"), (0, "request-2"))
    )
    assert torch.equal(first, second)  # type: ignore[arg-type]
    assert not torch.equal(first, other)  # type: ignore[arg-type]
