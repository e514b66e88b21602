"""`Rounds`: a method as a Flower strategy, with every reply accounted for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedlaf.core.cost import Cost
from fedlaf.core.errors import RoundFailed
from fedlaf.core.types import ClientId, Weights
from fedlaf.method.answers import Answers
from fedlaf.method.contract import Finding, RequestStopped, RoundRecord, Stage, StageResult
from fedlaf.method.progress import StageProgress
from fedlaf.protocol.messages import (
    Instruction,
    MeanRequest,
    encode_instruction,
    pack,
    settings_record,
    size_in_bytes,
    unpack,
)
from fedlaf.protocol.replies import NOT_FINITE, StreamingMean, means
from fedlaf.protocol.row_counts import DistinctRowCounter
from fedlaf.strategies.base.collect import ReplyCollector
from fedlaf.strategies.base.method import PhasedMethod
from fedlaf.strategies.base.phase import Phase, ServerState, sampled

QUORUM = 0.5
"""Share of a cohort that must answer in a phase that is not strict."""


class Rounds(Strategy):
    """Runs a method over its phases; state, cost and records can be read at any time."""

    def __init__(self, method: PhasedMethod, weights: Weights, stage: Stage) -> None:
        self.method, self.stage, self.registry = method, stage, stage.registry
        self.start_weights = weights
        rows = sum(self.registry.retain_rows(k) for k in self.registry.retain_clients)
        known = {"seed": stage.seed, "stage": stage.name, "retain_rows": rows}
        self.state = ServerState(weights, aux=known, inputs=stage.inputs)
        self.cost = Cost(bytes_stored=stage.inputs.nbytes)
        self.done = 0
        self.records: list[RoundRecord] = []
        self.findings: list[Finding] = []
        self.plan = [
            (phase, number)
            for place, phase in enumerate(method.phases(stage.registry))
            for number in range(1 + (stage.skip if place == 0 else 0), phase.rounds + 1)
        ]
        self._row_counter = DistinctRowCounter()
        self._sent: dict[ClientId, Message] = {}
        self._mean: StreamingMean | None = None
        self._grid: Grid | None = None

    def run(self, grid: Grid) -> StageResult:
        """All rounds of the plan that are left, by Flower's own loop. Raises RoundFailed, RequestStopped
        among them.
        """
        if self.stage.resumed is None:
            for limit in self.method.limits(self.registry):
                self._add_finding(limit)
            self.state = self.method.server_init(self.state, self.registry)
            self.cost += self.state.cost
        else:
            self._go_on(self.stage.resumed)
        if self.plan:
            self.start(grid, pack(self.state.weights), len(self.plan), self.stage.timeout)
        else:
            self._end_round(RoundRecord("server", 1, (), {}, {}, self.cost))
        self._check_silent()
        return self._result(self.state.weights)

    def _go_on(self, progress: StageProgress) -> None:
        """Stand where an earlier process left the stage."""
        self.state = replace(
            self.state, weights=progress.weights, round=progress.round, aux=dict(progress.aux)
        )
        self.cost, self.findings = progress.cost, list(progress.findings)
        self.records, self.done = list(progress.records), progress.done
        self._row_counter = DistinctRowCounter(progress.rows_read)
        self.plan = self.plan[progress.done :]

    def _progress(self) -> StageProgress:
        writer = self.stage.history_writer
        return StageProgress(
            self.done, self.state.weights, self.state.round, self.state.aux, self.cost,
            tuple(self.records), tuple(self.findings), self._row_counter.counts,
            {} if writer is None else writer.trained,
        )  # fmt: skip

    def _check_silent(self) -> None:
        """Raise RoundFailed for a client that failed each time it was asked: its rows are in no model."""
        answers = Answers.of(self.records)
        if answers.silent:
            (line, *_) = Answers(clients={answers.silent[0]: answers.clients[answers.silent[0]]}).lines(
                self.stage.name
            )
            more = f", and so did clients {answers.silent[1:]}" if len(answers.silent) > 1 else ""
            raise RoundFailed(f"{line}{more}")

    def _strict(self, phase: Phase) -> bool:
        return phase.strict or self.stage.strict

    def _result(self, weights: Weights) -> StageResult:
        writer = self.stage.history_writer
        history = None if writer is None else writer.handle
        return StageResult(weights, self.cost, tuple(self.records), tuple(self.findings), history)

    def _end_round(self, record: RoundRecord) -> None:
        self.records.append(record)
        for finding in self.method.findings(self.records):
            self._add_finding(finding)
        if self.stage.on_round is not None:
            self.stage.on_round(record, self.state.weights)

    def _add_finding(self, finding: Finding) -> None:
        self.findings.append(finding)
        if finding.fatal:
            raise RequestStopped(self.stage.name, finding, self._result(self.start_weights))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of one round: arrays are packed once and shared by all of them."""
        phase, number = self.plan[server_round - 1]
        self._grid = grid
        self.state = replace(self.state, round=number)
        sent = {part: pack(w) for part, w in self.method.arrays(phase, self.state).items()}
        settings = settings_record(self.method.config(phase, self.state))
        seed, name, sizes = self.stage.seed, self.stage.name, self.registry.sizes
        candidates = sampled(phase, self.registry, seed, name, number)
        asked = self.method.select_clients(phase, self.state, candidates)
        mean = None
        if phase.mean is not None:
            mean = MeanRequest(phase.mean, sum(sizes[client] for client in asked))
        sums = self.stage.history_writer is None and bool(getattr(grid, "sends_sums", False))
        self._mean = None if mean is None else StreamingMean(mean, unpack(sent[mean.part]), sums=sums)
        if self.stage.history_writer is not None:
            mean = None  # who keeps a history needs single replies; the sums of the mean are the same
        self._sent = {}
        for client in asked:
            rows = self.registry.split(client)
            order = Instruction(sent, settings, seed, name, number, rows, mean, phase=phase.name)
            node = self.registry.nodes[client]
            self._sent[client] = Message(encode_instruction(order), node, f"train.{phase.step}")
        # The longest first, so that nobody waits for a long one at the end.
        return [self._sent[k] for k in sorted(asked, key=lambda k: sizes[k], reverse=True)]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The next state from the replies, in partition order. Raises RoundFailed."""
        phase, number = self.plan[server_round - 1]
        nodes = {client: self.registry.nodes[client] for client in self._sent}
        arrays = self.method.arrays(phase, self.state)
        sizes, writer = self.registry.sizes, self.stage.history_writer
        collector = ReplyCollector(nodes, sizes, arrays, number, self._mean, writer)
        collector.collect(replies, self._sent.values())
        again = [self._again(client) for client in collector.failed] if self._strict(phase) else []
        if again and self._grid is not None:
            more = self._grid.send_and_receive(again, timeout=self.stage.timeout)
            collector.collect(more, [*self._sent.values(), *again])
        collector.refuse_unlike()
        self._check_quorum(phase, number, collector)
        cost = self._cost([*self._sent.values(), *again], collector)
        self.state = self._aggregated(phase, number, collector)
        numbers = means(collector.replies)
        self.cost += cost
        if self.stage.history_writer is not None:
            self.stage.history_writer.end(number)
        asked, by_client = tuple(self._sent), {r.client: r.cost.passes for r in collector.replies}
        passes = tuple(by_client.get(client, 0.0) for client in asked)
        self._end_round(RoundRecord(phase.name, number, asked, collector.failed, numbers, cost, passes))
        self.done += 1
        if self.stage.on_progress is not None and server_round < len(self.plan):
            self.stage.on_progress(self._progress())
        return pack(self.state.weights), MetricRecord(numbers)  # type: ignore[arg-type]

    def _aggregated(self, phase: Phase, number: int, collector: ReplyCollector) -> ServerState:
        where = f"{self.stage.name}, {phase.name} round {number}"
        if not collector.summed_up:
            raise RoundFailed(f"{where}: sums over other rows than those of the clients that answered")
        try:
            return self.method.aggregate(phase, self.state, collector.to_aggregate)
        except KeyError as error:  # a number or an array that some reply lacks
            (name,) = error.args
            lacking = [r.client for r in collector.replies if name not in {**r.arrays, **r.numbers}]
            if not lacking:
                raise
            raise RoundFailed(f"{where}: client {lacking[0]}: no {name} in the reply") from None

    def _again(self, client: ClientId) -> Message:
        first = self._sent[client]
        content = RecordDict(dict(first.content))
        return Message(content, self.registry.nodes[client], first.metadata.message_type)

    def _check_quorum(self, phase: Phase, number: int, collector: ReplyCollector) -> None:
        good, failed = collector.good, collector.failed
        enough = not failed if self._strict(phase) else len(good) >= QUORUM * len(self._sent)
        if enough and good:
            return
        diverged = [k for k, reason in failed.items() if reason.endswith(NOT_FINITE)]
        if self.registry.request.clients and diverged:
            message = f"client {diverged[0]}: {failed[diverged[0]]}"
            self._add_finding(Finding("diverged", phase.name, number, message, fatal=True))
        first = next(iter(failed), None)
        why = f"; client {first}: {failed[first]}" if first is not None else ""
        raise RoundFailed(
            f"{self.stage.name}, {phase.name} round {number}: {len(self._sent)} clients asked, "
            f"{len(good)} answered, {len(failed)} failed {sorted(failed)}{why}"
        )

    def _cost(self, sent: list[Message], collector: ReplyCollector) -> Cost:
        down = sum(size_in_bytes(message.content) for message in sent)
        averaged = 0 if self._mean is None else _nbytes(self._mean.sent)
        up = sum(
            averaged + sum(map(_nbytes, reply.arrays.values())) + 8 * reply.count_numbers
            for reply in collector.replies
        )
        messages = len(sent) + len(collector.good)
        traffic = Cost(bytes_down=down, bytes_up=up, messages=messages, rounds=1)
        spent = (self._row_counter.counted(reply.client, reply.cost) for reply in collector.replies)
        return sum(spent, traffic)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nothing: the simulator measures models itself, from outside the federation."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> None:
        """Nothing to aggregate."""
        return None

    def summary(self) -> None:
        """Nothing to log: the report says it all."""


def _nbytes(weights: Weights) -> int:
    return sum(array.nbytes for array in weights.values())
