"""Batches served: by their method or the fallback, at once or while training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from fedlaf.core.cost import Cost
from fedlaf.core.errors import RoundFailed
from fedlaf.core.request_record import RequestRecord, RequestStatus
from fedlaf.core.stream import BatchOutcome, RequestOutcome
from fedlaf.core.types import ClientId, Weights
from fedlaf.core.weights import weights_digest
from fedlaf.experiment.checkpoints import StageKind
from fedlaf.experiment.needs import inputs_for
from fedlaf.experiment.stream import machine
from fedlaf.experiment.stream.identities import remaining
from fedlaf.experiment.stream.measured import MeasuredRun
from fedlaf.experiment.stream.merging import merged
from fedlaf.experiment.stream.seam import record_of
from fedlaf.experiment.stream.serving import Choice, stage_request
from fedlaf.experiment.stream.state import Pending, Serving, StreamState
from fedlaf.method.answers import clients_answered
from fedlaf.method.contract import ClientRegistry, RequestStopped, Stage, StageResult

Phases = dict[str, tuple[ClientId, ...]]


@dataclass(frozen=True)
class Attempt:
    """What one method made of a batch: its stage, how it ended and why."""

    name: str
    choice: Choice
    registry: ClientRegistry
    status: RequestStatus
    result: StageResult
    reason: str
    seconds: float


@dataclass
class ServingRun(MeasuredRun):
    """The services of a run over a stream."""

    def ended(self, record: RequestRecord) -> None:
        """Let the ledger know of a request that has ended."""
        self.ledger.request(record)

    def become(self, state: StreamState) -> None:
        """Go on with the state; the ledger is told of each request that has ended."""
        before, self.state = self.state, state
        for outcome in state.outcomes[len(before.outcomes) :]:
            batch = next((b for b in state.batches if b.stage == outcome.stage), None)
            kept = self.digests.get(outcome.stage) or (weights_digest(self.weights),) * 2
            rows = self.roll.meant(outcome.request)
            start = self.original.get(outcome.stage, state.weights)
            self.ended(record_of(outcome, batch, rows, kept, start))

    def serve_batch(self, batch: Sequence[Pending], choice: Choice | None = None, delay: int = 0) -> None:
        """Serve a batch by the method that it calls for, or refuse it; `delay` rounds were lost before."""
        choice = choice or self.choice(batch[0])
        if choice.method is None:
            refused = [machine.ended(self.state, p, RequestStatus.REFUSED, choice.reason) for p in batch]
            self.become(machine.without(self.state, batch, refused))
            return
        attempt = self._attempt(batch, choice)
        rounds = int(attempt.result.cost.rounds)
        if attempt.status is not RequestStatus.COMPLETED:
            self._not_served(batch, attempt, delay + rounds)
        elif self.stream.goes_on and not self.last:
            self._begin(batch, attempt, delay)
        else:
            moved = self.state.moved(attempt.name, "service", rounds)
            outcome = self._outcome(batch, attempt, self.state.elapsed, moved.elapsed)
            before, self.weights, self.current = self.weights, attempt.result.weights, attempt.name
            self._complete(moved, batch, outcome, before, _phases(attempt.result))

    def complete_serving(self) -> None:
        """Publish what a service ends in that training went on beside."""
        serving = self.state.serving
        if serving is None:
            return
        before, original, unlearned = self.weights, self.held["original"], self.held["unlearned"]
        self.weights, self.current = unlearned, serving.unlearned
        if serving.original != self.state.weights:  # training has gone on
            self.weights = merged(unlearned, before, original)
            self.current = serving.outcome.stage.replace("request", "merged")
            self.keep(self.current, self.weights)
        ends = max(self.state.elapsed, serving.ends)
        state = replace(self.state, serving=None, elapsed=ends)
        outcome = replace(serving.outcome, completed=ends, round=state.round)
        self.held = {}
        self._complete(state, serving.batch, outcome, before, serving.phases)

    def _attempt(self, batch: Sequence[Pending], choice: Choice) -> Attempt:
        """Run the stage, and look at its result."""
        name, clock, method = f"request-{len(self.state.batches) + 1}", perf_counter(), choice.method
        if method is None:
            raise ValueError("a batch without a method is refused")
        registry = self.roll.asked(batch)
        registry = replace(registry, request=stage_request(registry.request, reached=choice.reached))
        start, spec = self.plan.initial_weights, self.plan.spec
        inputs = inputs_for(method, registry, self.histories, start, spec=spec)
        stage = Stage(name, self.plan.seed, registry, timeout=self.plan.timeout, inputs=inputs, strict=True)
        self.method, status, reason = method, RequestStatus.COMPLETED, ""
        try:
            result = self._stage(StageKind.FORGETTING, name, method, self.weights, stage, None)
        except RequestStopped as error:
            result, status, reason = error.result, RequestStatus.STOPPED, str(error)
        except RoundFailed as error:
            spent = self.following.spent if self.following else Cost()
            result, status, reason = StageResult(self.weights, spent, ()), RequestStatus.FAILED, str(error)
        self.asked_rounds.setdefault("service", []).extend((r.asked, r.passes) for r in result.records)
        if status is RequestStatus.COMPLETED:
            found = self.guarded(name, batch, self.weights, result.weights)
            fatal = next((finding for finding in found if finding.fatal), None)
            result = replace(result, findings=(*result.findings, *found))
            if fatal is not None:
                status, reason = RequestStatus.STOPPED, fatal.stopping(name)
        return Attempt(name, choice, registry, status, result, reason, perf_counter() - clock)

    def _outcome(self, batch: Sequence[Pending], attempt: Attempt, began: int, ends: int) -> BatchOutcome:
        return BatchOutcome(
            attempt.name, attempt.choice.name, attempt.choice.fallback, attempt.status,
            tuple(p.request.id for p in batch), sum(map(len, attempt.registry.request.rows.values())),
            self.state.round, began, ends, self.state.round, attempt.result.cost.numbers(), attempt.seconds,
            self.seconds.get(f"{attempt.name}, check", 0.0), reason=attempt.reason or attempt.choice.reason,
            forgotten=weights_digest(attempt.result.weights) != weights_digest(self.weights),
        )  # fmt: skip

    def _not_served(self, batch: Sequence[Pending], attempt: Attempt, lost: int) -> None:
        """The fallback's turn, or the end of the batch's requests."""
        moved = self.state
        if not self.stream.goes_on:
            moved = moved.moved(attempt.name, "service", int(attempt.result.cost.rounds))
        tried = self._outcome(batch, attempt, self.state.elapsed, moved.elapsed)
        self.state = replace(moved, batches=(*moved.batches, tried))
        self.left.append(self._rows_after(()))
        other = None if attempt.choice.fallback else self._fallback(batch, attempt.reason)
        if other is not None:
            self.serve_batch(batch, other, lost)
            return
        ended = [machine.ended(self.state, p, attempt.status, attempt.reason) for p in batch]
        outcomes = [replace(o, stage=tried.stage, method=tried.method, cost=tried.cost) for o in ended]
        self.become(machine.without(self.state, batch, outcomes))

    def _rows_after(self, batch: Sequence[Pending]) -> int:
        registry = self.roll.without(batch)
        return remaining(registry.removed, registry.sizes)

    def _fallback(self, batch: Sequence[Pending], why: str) -> Choice | None:
        for pending in batch:
            found = self.servants.instead(pending.request, self.roll.asked([pending]), self.state.round, why)
            if found.method is None:
                return None
        return found

    def _begin(self, batch: Sequence[Pending], attempt: Attempt, delay: int) -> None:
        """The service has begun: training goes on for as many rounds as it takes."""
        state, rounds = self.state, int(attempt.result.cost.rounds)
        ends = state.elapsed + delay + rounds
        outcome = self._outcome(batch, attempt, state.elapsed, ends)
        self.held = {"original": self.weights, "unlearned": attempt.result.weights}
        phases = _phases(attempt.result)
        serving = Serving(tuple(batch), ends, state.weights, attempt.name, outcome, phases)
        pending = tuple(p for p in state.pending if p not in batch)
        ids = set(outcome.requests)
        closed = tuple(name for name in state.closed if name not in ids)
        # It is no segment of the clock's: those of training lie beside it.
        self.state = replace(state, pending=pending, closed=closed, serving=serving)

    def _complete(
        self, state: StreamState, batch: Sequence[Pending], outcome: BatchOutcome, before: Weights,
        phases: Phases,
    ) -> None:  # fmt: skip
        """The model without the batch's rows is published."""
        self.state = state
        self.digests[outcome.stage] = weights_digest(before), weights_digest(self.weights)
        self.original[outcome.stage] = state.weights
        outcome = replace(outcome, measures=self.measured(batch, outcome, before))
        self.left.append(self._rows_after(batch))
        outcomes = [_served(p, outcome, batch, phases) for p in batch]
        state = replace(state, weights=self.current, batches=(*state.batches, outcome))
        self.let_go(outcome.stage, self.roll.asked(batch))
        self.become(machine.without(state, batch, outcomes))


def _phases(result: StageResult) -> Phases:
    """Who answered in each phase of a stage."""
    names = dict.fromkeys(record.phase for record in result.records)
    return {name: clients_answered([r for r in result.records if r.phase == name]) for name in names}


def _served(
    pending: Pending, batch: BatchOutcome, together: Sequence[Pending], phases: Phases
) -> RequestOutcome:
    others = tuple(p.request.id for p in together if p is not pending)
    return RequestOutcome(
        pending.request, batch.status, pending.rows, pending.issued, pending.request.issued,
        batch.completed, batch.round, batch.started, batch.started_round, batch.completed - batch.started,
        batch.check_seconds, batch.stage, batch.method, batch.fallback, batch.forgotten, others,
        batch.reason, pending.held, phases, batch.cost,
    )  # fmt: skip
