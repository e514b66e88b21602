"""What crosses the wire in a LAF request, who is asked, and that nobody reads a label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.federations import GarbageLabels, RecordingGrid, enrolled, initial_weights, same_bits, small_spec

from fedlaf.core.cost import Cost
from fedlaf.core.request import ForgetRequest
from fedlaf.data import Digits, Iid
from fedlaf.data.federation import build
from fedlaf.method.contract import Stage, StageResult
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.objectives.laf_targets import TargetRule
from fedlaf.protocol.messages import Part
from fedlaf.strategies.base.densities import DensityMethod, extractor_of, head_of
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.laf_adam import LafAdam
from fedlaf.strategies.laf_published import PublishedLaf
from fedlaf.strategies.laf_published_server import PublishedLafServer

SIZES = dict.fromkeys(range(4), 100)
REPRESENT = Represent(latent=4, rows="retain", epochs=1, most_rows=40)
FORGET = Forget(lr_unlearning=1e-4, lr_alignment=1e-3, weighting="oddness")
METHOD = PublishedLaf(
    represent=REPRESENT, represent_rounds=2, forget=FORGET, forget_steps=3, closing_rounds=2
)
ASSIGNED = LafAdam(
    represent=REPRESENT,
    represent_rounds=2,
    target_rule=TargetRule(strength=0.1, negative_weight=0.1),
    warmup_steps=2,
    align_rounds=1,
)
SERVER = PublishedLafServer(
    represent=REPRESENT, represent_rounds=2, forget_rounds=1, forget_steps=2, closing_rounds=2
)


METHODS = pytest.mark.parametrize("method", [METHOD, SERVER, ASSIGNED], ids=["local", "server", "adam"])


@METHODS
def test_labels_are_unread(method: DensityMethod) -> None:
    """The same rows under garbage labels give the same weights, bit for bit."""
    request = ForgetRequest.of_clients([0], SIZES)
    found = []
    for source in (Digits(train_rows=400, test_rows=100), GarbageLabels(1), GarbageLabels(2)):
        spec = small_spec(4, source=source, backdoor=None, partition=Iid())
        grid, registry = enrolled(spec)
        stage = Stage("request-1", 0, replace(registry, request=request))
        found.append(method.run(grid, initial_weights(spec), stage))
    assert not np.array_equal(
        build(small_spec(4, backdoor=None).federation).labels[0],
        build(small_spec(4, source=GarbageLabels(1), backdoor=None).federation).labels[0],
    )
    assert same_bits(found[0].weights, found[1].weights)
    assert same_bits(found[0].weights, found[2].weights)
    assert all(result.cost.labels_read == 0 for result in found)


def recorded(method: DensityMethod, request: ForgetRequest) -> tuple[RecordingGrid, StageResult]:
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    wire = RecordingGrid(grid)
    stage = Stage("request-1", 0, replace(registry, request=request))
    return wire, method.run(wire, initial_weights(spec), stage)


@METHODS
@pytest.mark.parametrize(
    "request_",
    [ForgetRequest.of_clients([0], SIZES), ForgetRequest.of_samples({0: range(30), 2: [5, 6, 7]}, SIZES)],
    ids=["client", "samples"],
)
def test_only_extractor_weights_h_and_numbers_cross_the_wire(
    method: DensityMethod, request_: ForgetRequest
) -> None:
    wire, result = recorded(method, request_)
    spec = small_spec(4)
    dims, latent, classes = 32, 4, 10
    start = initial_weights(spec)
    extractor = {k: v.shape for k, v in extractor_of(start).items()}
    shapes: dict[str, dict[str, tuple[int, ...]]] = {  # h apart, these alone; h_f is not among them
        Part.EXTRACTOR: extractor,
        Part.RETAIN_GRADIENT: extractor,
        Part.FORGET_GRADIENT: extractor,
    }
    if isinstance(method, LafAdam):
        shapes = {
            Part.EXTRACTOR: extractor,
            Part.HEAD: {k: v.shape for k, v in head_of(start).items()},
            Part.PREDICTED_COUNTS: {"predicted_counts": (classes,)},
            Part.SHIFT: {"shift": (classes,), "anchor": (dims,)},
        }
    data = build(spec.federation)
    assert wire.sent
    assert wire.replies
    for message in [*wire.sent, *wire.replies]:
        for part, record in message.content.array_records.items():
            for name, array in record.items():
                if part == Part.VAE:
                    assert set(array.shape) <= {dims, latent, 128, 32}
                else:
                    assert tuple(array.shape) == shapes[part][name]
        for record in message.content.metric_records.values():
            assert all(isinstance(number, float) for number in record.values())
    for message in wire.replies:
        assert not message.content.config_records  # nothing but arrays and numbers comes up
        raw = b"".join(a.data for r in message.content.array_records.values() for a in r.values())
        assert Part.HEAD not in message.content.array_records  # it goes down as it is, and never comes up
        assert Part.SHIFT not in message.content.array_records
        pixels = data.client(0).rows.x[0].numpy().tobytes()
        assert pixels not in raw
    assert result.cost.bytes_up > 0


def test_of_targets_only_predicted_class_counts_come_up() -> None:
    """Clients answer with predicted-class counts; the anchor that goes down is h's, no row's."""
    wire, _ = recorded(ASSIGNED, ForgetRequest.of_samples({0: range(30), 2: range(20)}, SIZES))
    allowed = {
        "train.score": ({Part.PREDICTED_COUNTS}, {"threshold", "rows"}),
        "train.assign_targets": ({Part.PREDICTED_COUNTS}, {"outlier", "rows"}),
        "train.apply_logit_shift": (
            set(),
            {"rows", "target_distance_retain", "changed", "target_distance_forget"},
        ),
    }
    seen = set()
    for message in wire.replies:
        step = message.metadata.message_type
        if step in allowed:
            seen.add(step)
            parts, numbers = allowed[step]
            assert set(message.content.array_records) == parts
            found = set(message.content.metric_records["numbers"]) - set(Cost().numbers())
            assert found <= numbers
    assert seen == set(allowed)
    (h,) = {
        m.content.array_records[Part.VAE]["shift"].data
        for m in wire.sent
        if m.metadata.message_type == "train.score"
    }
    shifting = [m for m in wire.sent if m.metadata.message_type == "train.apply_logit_shift"]
    assert {m.content.array_records[Part.SHIFT]["anchor"].data for m in shifting} == {h}


def test_h_f_is_shared_only_when_it_is_asked_for() -> None:
    request = ForgetRequest.of_samples({0: range(30), 2: range(20)}, SIZES)
    shared = replace(METHOD, represent=replace(REPRESENT, share_h_f=True))
    with_, without = (
        {part for m in recorded(method, request)[0].replies for part in m.content.array_records}
        for method in (shared, METHOD)
    )
    assert Part.FORGET_VAE in with_
    assert Part.FORGET_VAE not in without


@pytest.mark.parametrize("method", [METHOD, ASSIGNED], ids=["local", "adam"])
def test_a_withdrawn_client_gets_no_message_after_its_request_is_done(method: DensityMethod) -> None:
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    wire = RecordingGrid(grid)
    train = FedAvg(rounds=3)
    weights = train.until(2).run(wire, initial_weights(spec), Stage("train", 0, registry)).weights
    request = ForgetRequest.of_clients([1], SIZES)
    left = method.run(wire, weights, Stage("request-1", 0, replace(registry, request=request))).weights
    assert registry.nodes[1] in {m.metadata.dst_node_id for m in wire.sent}

    wire.sent.clear()
    after = replace(registry, removed=request)
    train.run(wire, left, Stage("train", 0, after, skip=2))  # training goes on
    train.run(wire, initial_weights(spec), Stage("train", 0, after))  # the reference is retrained
    second = ForgetRequest.of_samples({2: [1, 2, 3]}, SIZES)
    method.run(wire, left, Stage("request-2", 0, replace(after, request=second)))  # another request
    assert wire.sent
    assert registry.nodes[1] not in {m.metadata.dst_node_id for m in wire.sent}


def test_rows_that_are_gone_are_never_trained_on_again() -> None:
    """A federation in which those rows were never there ends with the same weights."""
    spec = small_spec(4)
    federation = build(spec.federation)
    grid, registry = enrolled(spec)
    removed = ForgetRequest.of_samples({0: range(50), 3: range(10, 20)}, SIZES)
    train = FedAvg(rounds=1)
    start = initial_weights(spec)
    result = train.run(grid, start, Stage("train", 0, replace(registry, removed=removed)))
    assert result.cost.gradient_passes == 400 - 60
    kept = [len(federation.client(k).labelled(removed.of(k))) for k in range(4)]
    assert kept == [50, 100, 100, 90]


def test_a_cohort_of_clients_is_the_same_in_all_phases() -> None:
    method: DensityMethod = replace(METHOD, cohort=2)
    spec = small_spec(6, rows=600)
    grid, registry = enrolled(spec)
    request = ForgetRequest.of_clients([5], dict.fromkeys(range(6), 100))
    result = method.run(
        grid, initial_weights(spec), Stage("request-1", 0, replace(registry, request=request))
    )
    asked = {record.phase: set(record.asked) for record in result.records}
    others = asked["recover"]
    assert len(others) == 2
    assert asked["teach"] == asked["forget"] == others | {5}
    assert asked["represent own"] == {5}
    assert asked["represent"] == others
