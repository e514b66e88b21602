"""The methods that LAF is compared with, whole, on the digits: who works, what it costs, what is seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from support.federations import GarbageLabels, RecordingGrid, enrolled, initial_weights, same_bits, small_spec

from fedlaf.client import ClientSpec
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.data import Digits, Iid
from fedlaf.data.federation import build
from fedlaf.method.contract import MethodInputs, Need, Stage, StageResult
from fedlaf.objectives.classification import Fit
from fedlaf.objectives.gradients import FedOsdGradients, Importance, LabelFreeImportance, Unroll
from fedlaf.objectives.logit_objectives import (
    DistilBoth,
    DistilForgotten,
    DistilHead,
    Hold,
    NegGrad,
    Push,
    Relabel,
    Shrink,
)
from fedlaf.objectives.perturbation import Smooth
from fedlaf.objectives.teachers import (
    RandomLabels,
    RandomTeacherLogits,
    TeacherLogits,
    VirtualTeacher,
)
from fedlaf.protocol.messages import Part
from fedlaf.strategies.bad_teacher import BadTeacher
from fedlaf.strategies.base.strategy import ForgetStrategy
from fedlaf.strategies.boundary import Boundary
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.fedosd import FedOsd
from fedlaf.strategies.gradient_ascent import GradientAscent
from fedlaf.strategies.head_distill import HeadDistillation
from fedlaf.strategies.jit import JustInTime
from fedlaf.strategies.salun import SalUn
from fedlaf.strategies.scrub import Scrub
from fedlaf.strategies.ssd import LossFreeSsd, Ssd
from fedlaf.strategies.unroll import SingleGradient
from fedlaf.strategies.virtual_teacher import LabelFreeVirtualTeaching, VirtualTeaching

SIZES = dict.fromkeys(range(4), 100)
RECOVER = Fit(lr=1e-3, labels=0.5)
SGD = {"optimizer": "sgd", "lr": 0.01, "batch_size": 16, "steps": 2}


@dataclass(frozen=True)
class Case:
    """A method; for client 0 leaving: its passes with and without gradient, labels read, who is asked, and
    what keeps its bits.
    """

    method: ForgetStrategy
    gradient: int
    forward: int
    labels: int
    asked: dict[str, tuple[int, ...]]
    frozen: tuple[str, ...] = ()


ALL, ONLINE, OTHERS = (0, 1, 2, 3), (0,), (1, 2, 3)
CASES = {
    "gradient_ascent": Case(
        GradientAscent(ascend=NegGrad(**SGD, clip=1.0), recover=RECOVER, recover_rounds=1),
        32 + 150, 0, 32 + 150, {"ascend": ONLINE, "recover": OTHERS},
    ),
    "scrub": Case(
        Scrub(
            teacher=TeacherLogits(share=0.4), push=Push(**SGD), push_rounds=1,
            hold=Hold(lr=1e-3), hold_rounds=2,
        ),
        32 + 2 * 120, 100 + 120, 2 * 120,
        {"teacher_logits": ALL, "push 1": ONLINE, "hold 1": OTHERS, "hold": OTHERS},
    ),
    "bad_teacher": Case(
        BadTeacher(teacher=RandomTeacherLogits(share=0.4), distil=DistilBoth(lr=1e-3, steps=None), rounds=1),
        100 + 120, 100 + 120, 0, {"random_teacher_logits": ALL, "distil": ALL},
    ),
    "boundary": Case(
        Boundary(shrink=Shrink(**SGD), recover=RECOVER, shrink_rounds=2),
        100 + 64 + 150, 100, 100 + 150, {"adversarial_relabel": ONLINE, "shrink": ONLINE, "recover": OTHERS},
    ),
    "ssd": Case(
        Ssd(importance=Importance(16, share=0.4), alpha=1.1), 100 + 120, 0, 100 + 120, {"importance": ALL}
    ),
    "lfssd": Case(
        LossFreeSsd(importance=LabelFreeImportance(16, share=0.4), alpha=1.1), 100 + 120, 0, 0,
        {"importance": ALL},
    ),
    "salun": Case(
        SalUn(labels=RandomLabels(share=0.4), relabel=Relabel(lr=1e-3, batch_size=16, steps=2), rounds=1),
        100 + 4 * 32, 0, 100 + 100 + 4 * 32, {"saliency": ONLINE, "random_labels": ALL, "relabel": ALL},
    ),
    "virtual_teacher": Case(
        VirtualTeaching(distil=DistilForgotten(**SGD), recover=RECOVER), 32 + 150, 100, 100 + 150,
        {"virtual_teacher": ONLINE, "distil": ONLINE, "recover": OTHERS},
    ),
    "virtual_teacher_label_free": Case(
        LabelFreeVirtualTeaching(
            teacher=VirtualTeacher(share=0.4, labels=False), distil=DistilBoth(lr=1e-3, steps=None), rounds=1
        ),
        100 + 120, 100 + 120, 0, {"virtual_teacher": ALL, "distil": ALL},
    ),
    "head_distill": Case(
        HeadDistillation(
            teacher=VirtualTeacher(share=0.4, labels=False, excluded=True),
            distil=DistilHead(steps=None), rounds=1,
        ),
        100 + 120, 100 + 120, 0, {"virtual_teacher": ALL, "distil": ALL}, ("extractor.",),
    ),
    "jit": Case(JustInTime(smooth=Smooth(**SGD, samples=3)), 32, 3 * 32, 0, {"smooth": ONLINE}),
    "unroll": Case(SingleGradient(eta=0.05, unroll=Unroll(16)), 100, 0, 100, {"unroll": ONLINE}),
    "fedosd": Case(
        FedOsd(gradients=FedOsdGradients(share=0.2), gradient_rounds=2, recover=RECOVER, recover_rounds=1),
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
    """The model changes, keeps its form, and its cost is what was done."""
    case = CASES[name]
    result, _ = run(case.method)
    _, before = trained()
    assert list(result.weights) == list(before)
    for key, array in result.weights.items():
        assert (array.dtype, array.shape) == (before[key].dtype, before[key].shape)
        assert np.isfinite(array).all()
        assert np.array_equal(array, before[key]) == key.startswith(case.frozen)
    cost = result.cost
    assert (cost.gradient_passes, cost.forward_passes) == (case.gradient, case.forward)
    assert cost.labels_read == case.labels
    assert {record.phase: record.asked for record in result.records} == case.asked
    assert (Need.LABELS in case.method.needs) == (case.labels > 0)
    assert (Need.ONLINE in case.method.needs) == (0 in {k for r in result.records for k in r.asked})


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
    result, _ = run(CASES[name].method, request_)
    remaining = tuple(k for k in range(4) if len(request_.of(k)) < 100)
    who = {ONLINE: request_.clients, OTHERS: remaining, ALL: ALL}
    for record in result.records:
        assert record.asked == who[CASES[name].asked[record.phase]]
    assert not same_bits(result.weights, trained()[1])


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
    "train.unroll": {Part.FORGET_GRADIENT}, "train.saliency": {Part.FORGET_GRADIENT},
    "train.importance": {Part.RETAIN_IMPORTANCE, Part.FORGET_IMPORTANCE},
    "train.label_free_importance": {Part.RETAIN_IMPORTANCE, Part.FORGET_IMPORTANCE},
    "train.random_labels": set(), "train.masked_relabel": {Part.MODEL}, "train.virtual_teacher": set(),
    "train.distil_forgotten": {Part.MODEL}, "train.distil_head": {Part.HEAD}, "train.smooth": {Part.MODEL},
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
    assert all(set(m.content.array_records) - {Part.MASK} == {Part.MODEL} for m in wire.sent)
    for message in wire.replies:
        assert not message.content.config_records
        assert set(message.content.array_records) <= UP[message.metadata.message_type]
        for record in message.content.array_records.values():
            assert {key: array.shape for key, array in record.items()}.items() <= shapes.items()
            assert pixels not in b"".join(array.data for array in record.values())
        (numbers,) = message.content.metric_records.values()
        assert all(isinstance(number, float) for number in numbers.values())


@EACH
def test_a_withdrawn_client_gets_no_message_after_its_request_is_done(name: str) -> None:
    spec, weights = trained()
    grid, registry = enrolled(spec)
    wire = RecordingGrid(grid)
    inputs = MethodInputs(initial_weights(spec))
    method = CASES[name].method
    asked = replace(registry, request=LEAVES)
    left = method.run(wire, weights, Stage("request-1", 0, asked, inputs=inputs)).weights
    assert registry.nodes[0] in {m.metadata.dst_node_id for m in wire.sent}
    wire.sent.clear()
    again = replace(registry, removed=LEAVES, request=ForgetRequest.of_samples({2: [1, 2, 3]}, SIZES))
    method.run(wire, left, Stage("request-2", 0, again, inputs=inputs))
    assert wire.sent
    assert registry.nodes[0] not in {m.metadata.dst_node_id for m in wire.sent}


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
