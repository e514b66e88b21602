"""`Rounds`: a method as a Flower strategy, with every reply accounted for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedlaf.core.cost import Cost
from fedlaf.core.errors import RoundFailed
from fedlaf.core.types import ClientId, Weights
from fedlaf.method.contract import Finding, Outcome, RequestStopped, Roster, RoundRecord, Stage
from fedlaf.protocol.messages import (
    Instruction,
    MeanRequest,
    Part,
    Reply,
    decode_reply,
    encode_instruction,
    pack,
    settings_record,
    size_in_bytes,
    unpack,
)
from fedlaf.protocol.replies import NOT_FINITE, ROWS, Fold, fault_of, light, means
from fedlaf.protocol.row_counts import Once
from fedlaf.strategies.base.phase import Phase, ServerState, sampled

QUORUM = 0.5
"""Share of a cohort that must answer in a phase that is not strict."""


class Runs(Protocol):
    """What is run: see `fedlaf.strategies.base.method.Method`."""

    def phases(self, roster: Roster) -> Sequence[Phase]: ...

    def begins(self, state: ServerState, roster: Roster) -> ServerState: ...

    def asks(self, phase: Phase, state: ServerState, clients: list[ClientId]) -> list[ClientId]: ...

    def sends(self, phase: Phase, state: ServerState) -> Mapping[Part, Weights]: ...

    def tells(self, phase: Phase, state: ServerState) -> Mapping[str, Any]: ...

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState: ...

    def findings(self, records: Sequence[RoundRecord]) -> Sequence[Finding]: ...


class Rounds(Strategy):
    """Runs a method over its phases; state, cost and records can be read at any time."""

    def __init__(self, method: Runs, weights: Weights, stage: Stage) -> None:
        self.method, self.stage, self.roster = method, stage, stage.roster
        self.start_weights = weights
        remaining = sum(self.roster.remaining_rows(k) for k in self.roster.remaining)
        known = {"seed": stage.seed, "stage": stage.name, "remaining": remaining}
        self.state = ServerState(weights, aux=known, given=stage.given)
        self.cost = Cost(bytes_stored=stage.given.nbytes)
        self.records: list[RoundRecord] = []
        self._ledger = Once()
        self.findings: list[Finding] = []
        self.plan = [
            (phase, number)
            for place, phase in enumerate(method.phases(stage.roster))
            for number in range(1 + (stage.skip if place == 0 else 0), phase.rounds + 1)
        ]
        self._asked: dict[ClientId, Message] = {}
        self._fold: Fold | None = None
        self._rows = {node: self.roster.sizes[k] for k, node in self.roster.nodes.items()}
        self._grid: Grid | None = None

    def run(self, grid: Grid) -> Outcome:
        """All rounds of the plan, by Flower's own loop. Raises RoundFailed, RequestStopped among them."""
        self.state = self.method.begins(self.state, self.roster)
        self.cost += self.state.cost
        if self.plan:
            self.start(grid, pack(self.state.weights), len(self.plan), self.stage.timeout)
        else:
            self._ended(RoundRecord("server", 1, (), {}, {}, self.cost))
        return self._outcome(self.state.weights)

    def _outcome(self, weights: Weights) -> Outcome:
        kept = None if self.stage.recorder is None else self.stage.recorder.kept
        return Outcome(weights, self.cost, tuple(self.records), tuple(self.findings), kept)

    def _ended(self, record: RoundRecord) -> None:
        self.records.append(record)
        for finding in self.method.findings(self.records):
            self._found(finding)
        if self.stage.on_round is not None:
            self.stage.on_round(record, self.state.weights)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of one round: arrays are packed once and shared by all of them."""
        phase, number = self.plan[server_round - 1]
        self._grid = grid
        self.state = replace(self.state, round=number)
        sent = {part: pack(w) for part, w in self.method.sends(phase, self.state).items()}
        settings = settings_record(self.method.tells(phase, self.state))
        seed, name = self.stage.seed, self.stage.name
        asked = self.method.asks(phase, self.state, sampled(phase, self.roster, seed, name, number))
        most = sum(self.roster.sizes[client] for client in asked)
        mean = None if phase.mean is None else MeanRequest(phase.mean, most)
        self._fold = None if mean is None else Fold(mean, unpack(sent[mean.part]))
        if self.stage.recorder is not None:
            mean = None  # whoever records needs single replies; the fold's sums are the same
        self._asked = {}
        for client in asked:
            told = Instruction(sent, settings, seed, name, number, self.roster.split(client), mean)
            content = encode_instruction(told)
            self._asked[client] = Message(content, self.roster.nodes[client], phase.action)
        # The longest first, so that nobody waits for a long one at the end.
        return sorted(self._asked.values(), key=self._rows_of, reverse=True)

    def _rows_of(self, message: Message) -> int:
        return self._rows[message.metadata.dst_node_id]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The next state from the replies, in partition order. Raises RoundFailed."""
        phase, number = self.plan[server_round - 1]
        good, failed = self._sorted_out(phase, replies)
        again = [self._fresh(phase, client) for client in failed] if phase.strict else []
        if again:
            later, failed = self._sorted_out(phase, self._ask(again), asked=list(failed))
            good |= later
        self._check_quorum(phase, number, good, failed)
        ordered = [good[client] for client in sorted(good)]
        cost = self._cost([*self._asked.values(), *again], ordered)
        self.state = self.method.aggregate(phase, self.state, self._folded(ordered))
        numbers = means(ordered)
        self.cost += cost
        if self.stage.recorder is not None:
            self.stage.recorder.end(number)
        self._ended(RoundRecord(phase.name, number, tuple(self._asked), failed, numbers, cost))
        return pack(self.state.weights), MetricRecord(numbers)  # type: ignore[arg-type]

    def _found(self, finding: Finding) -> None:
        self.findings.append(finding)
        if finding.fatal:
            raise RequestStopped(self.stage.name, finding, self._outcome(self.start_weights))

    def _sorted_out(
        self, phase: Phase, replies: Iterable[Message], asked: list[ClientId] | None = None
    ) -> tuple[dict[ClientId, Reply], dict[ClientId, str]]:
        expected = list(self._asked) if asked is None else asked
        whose = {self.roster.nodes[client]: client for client in expected}
        # What comes back under the name of what was sent must have its names and shapes.
        sent = self.method.sends(phase, self.state)
        good: dict[ClientId, Reply] = {}
        failed = dict.fromkeys(expected, "no answer in time")
        for message in replies:
            client = whose.get(message.metadata.src_node_id)
            if client is None or client in good:  # a late reply of one who was not asked, or an echo: refused
                continue
            if message.has_error():
                failed[client] = message.error.reason or f"error {message.error.code}"
                continue
            try:
                reply = decode_reply(message, client)
            except (KeyError, TypeError, ValueError) as error:
                failed[client] = f"a malformed reply ({type(error).__name__}: {error})"
                continue
            fault = fault_of(reply, sent) or self._take(reply)
            if fault is None:
                self._record(reply, sent)
                good[client] = reply if self._fold is None else light(reply)
                failed.pop(client, None)
            else:
                failed[client] = fault
        return good, {k: v for k, v in failed.items() if k not in good}

    def _take(self, reply: Reply) -> str | None:
        return None if self._fold is None else self._fold.take(reply)

    def _record(self, reply: Reply, sent: Mapping[Part, Weights]) -> None:
        recorder, model = self.stage.recorder, Part.MODEL
        if recorder is not None and model in reply.arrays:
            number, rows = self.state.round, int(reply.numbers[ROWS])
            recorder.take(number, reply.client, sent[model], reply.arrays[model], rows=rows)

    def _folded(self, replies: list[Reply]) -> list[Reply]:
        """The replies, or the one with their mean where that is all that is needed."""
        if self._fold is None:
            return replies
        part, mean = self._fold.wanted.part, self._fold.mean
        return [Reply({part: mean.value()}, {ROWS: mean.weight})]

    def _fresh(self, phase: Phase, client: ClientId) -> Message:
        first = self._asked[client]
        return Message(RecordDict(dict(first.content)), self.roster.nodes[client], phase.action)

    def _ask(self, messages: list[Message]) -> Iterable[Message]:
        if self._grid is None:
            return []
        return self._grid.send_and_receive(messages, timeout=self.stage.timeout)

    def _check_quorum(
        self, phase: Phase, number: int, good: Mapping[ClientId, Reply], failed: Mapping[ClientId, str]
    ) -> None:  # fmt: skip
        enough = not failed if phase.strict else len(good) >= QUORUM * len(self._asked)
        if enough and good:
            return
        serves = bool(self.roster.request.clients)
        wild = [k for k, reason in failed.items() if reason.endswith(NOT_FINITE)]
        if serves and wild:
            told = f"client {wild[0]}: {failed[wild[0]]}"
            self._found(Finding("diverged", phase.name, number, told, fatal=True))
        first = next(iter(failed), None)
        why = f"; client {first}: {failed[first]}" if first is not None else ""
        raise RoundFailed(
            f"{self.stage.name}, {phase.name} round {number}: {len(self._asked)} clients asked, "
            f"{len(good)} answered, {len(failed)} failed {sorted(failed)}{why}"
        )

    def _cost(self, sent: list[Message], replies: list[Reply]) -> Cost:
        down = sum(size_in_bytes(message.content) for message in sent)
        folded = 0 if self._fold is None else _nbytes(self._fold.sent)
        up = sum(
            folded + sum(_nbytes(arrays) for arrays in reply.arrays.values()) + 8 * len(reply.numbers)
            for reply in replies
        )
        traffic = Cost(bytes_down=down, bytes_up=up, messages=len(sent) + len(replies), rounds=1)
        spent = (self._ledger.counted(reply.client, Cost.of(reply.numbers)) for reply in replies)
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
