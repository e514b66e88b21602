"""Enrolment, order, sampling and failures: every reply is accounted for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Error, Message, RecordDict
from support.federations import RecordingGrid, enrolled, initial_weights, same_bits, small_spec

from fedlaf.core.errors import RoundFailed
from fedlaf.core.request import ForgetRequest
from fedlaf.method.contract import Stage
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.protocol.messages import Part, pack, unpack
from fedlaf.strategies.base.method import PhasedMethod
from fedlaf.strategies.base.rounds import Rounds
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.laf_published import PublishedLaf

REQUEST = ForgetRequest.of_clients([0], dict.fromkeys(range(4), 100))
LAF = PublishedLaf(represent=Represent(latent=4), represent_rounds=1, forget=Forget(), forget_steps=2)


def from_client(
    client: int, change: Callable[[Message], Message | None], after: int = 0, times: int = 100
) -> Callable[[Message], Message | None]:
    """Tamper with the replies of one client, `times` of them, once `after` of its replies have passed."""
    seen = 0

    def tamper(reply: Message) -> Message | None:
        nonlocal seen
        if reply.metadata.src_node_id != 1001 + client:
            return reply
        seen += 1
        return change(reply) if after < seen <= after + times else reply

    return tamper


def failing(reply: Message) -> Message:
    return Message(Error(1, "ValueError: out of luck"), reply_to=reply)


def answered_by_server(reply: Message) -> Message:
    error = failing(reply)
    error.metadata.__dict__["_src_node_id"] = reply.metadata.src_node_id
    error.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
    return error


def lost(reply: Message) -> None:
    return None


def changed(
    part: str, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
) -> Callable[[Message], Message]:
    def tamper(reply: Message) -> Message:
        content = dict(reply.content)
        if part in content:
            content[part] = pack(change(unpack(content[part])))
        reply.content = RecordDict(content)
        return reply

    return tamper


def nan(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    first = next(iter(weights))
    spoilt = weights[first].copy()
    spoilt.flat[0] = np.nan
    return {**weights, first: spoilt}


def renamed(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"x.{k}": v for k, v in weights.items()}


def reshaped(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k: v[..., :1] for k, v in weights.items()}


def run(
    method: PhasedMethod, tamper: Callable[[Message], Message | None] | None, request: ForgetRequest
) -> Rounds:
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    rounds = Rounds(method, initial_weights(spec), Stage("s", 0, replace(registry, request=request)))
    rounds.run(RecordingGrid(grid, tamper=tamper))
    return rounds


FAULTS = {
    "raises": (answered_by_server, "ValueError: out of luck"),
    "lost": (lost, "no answer in time"),
    "nan": (changed(Part.MODEL, nan), "holds NaN or Inf"),
    "renamed": (changed(Part.MODEL, renamed), "other names"),
    "reshaped": (changed(Part.MODEL, reshaped), "expected"),
}


@pytest.mark.parametrize(("change", "why"), FAULTS.values(), ids=FAULTS.keys())
def test_training_leaves_a_failing_client_out_and_says_why(change: Callable, why: str) -> None:
    rounds = run(FedAvg(rounds=2), from_client(2, change, times=1), ForgetRequest())
    first, second = rounds.records
    assert first.asked == second.asked == (0, 1, 2, 3)
    assert list(first.failed) == [2]
    assert why in first.failed[2]
    assert not second.failed
    # The first round's mean is that of the other three, and has nothing of the failing one.
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    without = replace(registry, removed=ForgetRequest.of_clients([2], registry.sizes))
    three = FedAvg(rounds=1).run(grid, initial_weights(spec), Stage("s", 0, without)).weights
    all_four = FedAvg(rounds=2).run(grid, three, Stage("s", 0, registry, skip=1)).weights
    assert same_bits(rounds.state.weights, all_four)


def test_a_client_that_fails_in_each_round_stops_training() -> None:
    with pytest.raises(RoundFailed, match=r"^s: client 2 failed in 2 of 2 rounds \(no answer in time\)$"):
        run(FedAvg(rounds=2), from_client(2, lost), ForgetRequest())


def test_training_stops_without_a_quorum() -> None:
    def most_fail(reply: Message) -> Message | None:
        return None if reply.metadata.src_node_id > 1001 else reply

    with pytest.raises(RoundFailed, match=r"4 clients asked, 1 answered, 3 failed \[1, 2, 3\]"):
        run(FedAvg(rounds=1), most_fail, ForgetRequest())


def test_a_forget_round_asks_a_failing_client_once_more() -> None:
    calls = []

    def once(reply: Message) -> Message | None:
        calls.append(reply)
        return lost(reply) if len(calls) == 1 else reply

    good = run(LAF, None, REQUEST)
    retried = run(LAF, from_client(3, once), REQUEST)
    assert same_bits(good.state.weights, retried.state.weights)
    assert all(not record.failed for record in retried.records)


def test_a_forget_round_stops_when_a_party_stays_away() -> None:
    with pytest.raises(RoundFailed, match=r"s, forget round 1: 4 clients asked, 3 answered, 1 failed \[0\]"):
        run(LAF, from_client(0, lost, after=2), REQUEST)  # it teaches, and trains h_f


def test_a_forget_round_refuses_an_extractor_with_nan() -> None:
    with pytest.raises(RoundFailed, match=r"client 2: extractor\.0\.weight holds NaN or Inf"):
        run(LAF, from_client(2, changed(Part.EXTRACTOR, nan)), REQUEST)


def test_replies_are_aggregated_in_partition_order_whatever_order_they_come_in() -> None:
    class Backwards(RecordingGrid):
        def send_and_receive(self, messages, *, timeout=None):  # type: ignore[no-untyped-def]
            return list(super().send_and_receive(messages, timeout=timeout))[::-1]

    spec = small_spec(4)
    found = []
    for wrap in (RecordingGrid, Backwards):
        inner, registry = enrolled(spec)
        grid = wrap(inner)
        found.append(FedAvg(rounds=2).run(grid, initial_weights(spec), Stage("s", 0, registry)).weights)
    assert same_bits(*found)


def test_training_that_stops_and_goes_on_is_training_in_one_go() -> None:
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    train = FedAvg(rounds=3, cohort=2)
    start = initial_weights(spec)
    whole = train.run(grid, start, Stage("train", 0, registry)).weights
    half = train.until(1).run(grid, start, Stage("train", 0, registry)).weights
    rest = train.run(grid, half, Stage("train", 0, registry, skip=1)).weights
    assert same_bits(whole, rest)


def test_cohorts_are_sampled_by_seed_and_round() -> None:
    spec = small_spec(6, rows=600)

    def asked(seed: int) -> list[tuple[int, ...]]:
        grid, registry = enrolled(spec)
        result = FedAvg(rounds=4, cohort=2).run(grid, initial_weights(spec), Stage("t", seed, registry))
        return [record.asked for record in result.records]

    assert asked(0) == asked(0) != asked(1)
    assert len(set(asked(0))) > 1
    assert all(len(set(cohort)) == 2 for cohort in asked(0))


def test_costs_are_counted() -> None:
    rounds = run(FedAvg(rounds=2), None, ForgetRequest())
    model = sum(v.nbytes for v in rounds.state.weights.values())
    cost = rounds.cost
    assert cost.gradient_passes == cost.labels_read == 2 * 400
    assert cost.rounds == 2
    assert cost.messages == 2 * 2 * 4
    assert 8 * model < cost.bytes_down < 8 * model * 1.1
    assert 8 * model < cost.bytes_up < 8 * model * 1.1
    assert cost.client_seconds > 0


def test_enrolment_refuses_a_federation_that_is_not_whole() -> None:
    from fedlaf.protocol.enrolment import enrol

    spec = small_spec(4)
    grid, _ = enrolled(spec)
    with pytest.raises(RoundFailed, match=r"expected partitions 0 to 4 to enrol, got \[0, 1, 2, 3\]"):
        enrol(grid, expected=5, timeout=0.1)


def test_a_second_asking_is_paid_for() -> None:
    def once(reply: Message) -> Message | None:
        once.calls += 1  # type: ignore[attr-defined]
        return lost(reply) if once.calls == 1 else reply  # type: ignore[attr-defined]

    once.calls = 0  # type: ignore[attr-defined]
    good, retried = run(LAF, None, REQUEST), run(LAF, from_client(3, once), REQUEST)
    assert retried.cost.messages == good.cost.messages + 1
    assert retried.records[0].cost.bytes_down > good.records[0].cost.bytes_down


def test_what_a_client_kept_for_a_request_is_dropped_when_training_goes_on() -> None:
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    start = initial_weights(spec)
    LAF.run(grid, start, Stage("request-1", 0, replace(registry, request=REQUEST)))
    contexts = grid.contexts  # type: ignore[attr-defined]
    assert contexts[1002].state.array_records
    FedAvg(rounds=1).run(grid, start, Stage("train", 0, replace(registry, removed=REQUEST)))
    assert not contexts[1002].state.array_records
