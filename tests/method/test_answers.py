"""Failures are counted for every stage, and fatal where a reference or a whole client would be missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from flwr.app import Error, Message
from support.federations import RecordingGrid, enrolled, initial_weights, small_spec

from fedlaf.core.cost import Cost
from fedlaf.core.errors import RoundFailed
from fedlaf.core.request import ForgetRequest
from fedlaf.method.answers import Answers, busiest, clients_answered
from fedlaf.method.contract import RoundRecord, Stage
from fedlaf.objectives import Fit
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.fine_tune import FineTune

SPEC = small_spec(4)


class Failing(RecordingGrid):
    """A grid on which client 2 fails in the rounds `rounds`, each time that it is asked in them."""

    def __init__(self, rounds: set[int]) -> None:
        inner, self.registry = enrolled(SPEC)
        super().__init__(inner, self._failed)
        self.rounds = rounds

    def _failed(self, message: Message) -> Message:
        asked = next(m for m in reversed(self.sent) if m.metadata.dst_node_id == message.metadata.src_node_id)
        round_ = asked.content.config_records["order"]["round"]
        if message.metadata.src_node_id == self.registry.nodes[2] and round_ in self.rounds:
            return Message(Error(1, "no luck"), reply_to=asked)
        return message


def record(*failed: int) -> RoundRecord:
    return RoundRecord("train", 1, (0, 1, 2), dict.fromkeys(failed, "why"), {}, Cost())


def test_answers_are_counted_by_client() -> None:
    answers = Answers.of([record(1), record(), record(1, 2)])
    assert (answers.asked, answers.failed, answers.silent) == (9, 3, [])
    assert answers.lines("train") == [
        "train: client 1 failed in 2 of 3 rounds (why)",
        "train: client 2 failed in 1 of 3 rounds (why)",
    ]
    assert clients_answered([record(1), record(1)]) == (0, 2)


def test_training_goes_on_without_a_client_that_fails_now_and_then() -> None:
    grid = Failing({1})
    result = FedAvg(rounds=2, fit=Fit(lr=1e-2)).run(
        grid, initial_weights(SPEC), Stage("train", 0, grid.registry)
    )
    assert Answers.of(result.records).clients[2].failed == 1


def test_a_client_that_fails_in_every_round_of_training_is_fatal() -> None:
    grid = Failing({1, 2})
    with pytest.raises(RoundFailed, match=r"train: client 2 failed in 2 of 2 rounds \(no luck\)"):
        FedAvg(rounds=2).run(grid, initial_weights(SPEC), Stage("train", 0, grid.registry))


@pytest.mark.parametrize("method", [FedAvg(rounds=2), FineTune(rounds=2)], ids=["retraining", "fine-tuning"])
def test_in_a_strict_stage_every_answer_counts(method: FedAvg) -> None:
    grid = Failing({2})
    request = ForgetRequest.of_clients([0], grid.registry.sizes)
    stage = Stage("request-1", 0, replace(grid.registry, request=request), strict=True)
    with pytest.raises(
        RoundFailed, match=r"round 2: 3 clients asked, 2 answered, 1 failed \[2\]; client 2: no luck"
    ):
        method.run(grid, initial_weights(SPEC), stage)


def test_the_busiest_client_is_held_against_the_mean_of_all_that_remain() -> None:
    """Two of four were asked, one twice; who has left does not count."""
    records = [
        RoundRecord("one", 1, (0, 1, 9), {}, {}, Cost(), (30.0, 10.0, 500.0)),
        RoundRecord("two", 1, (0,), {}, {}, Cost(), (20.0,)),
    ]
    assert busiest(records, [0, 1, 2, 3]) == pytest.approx(50 / 15)
    assert busiest(records, [2, 3]) is None
    assert busiest([], [0]) is None
