"""A run whose requests come as a stream: it listens, trains, closes windows, serves, and measures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedlaf.core.stream import Arrival
from fedlaf.evaluation.stream_costs import TrainingRound
from fedlaf.experiment.checkpoints import StageKind
from fedlaf.experiment.stream import machine
from fedlaf.experiment.stream.moments import moment, seen
from fedlaf.experiment.stream.services import ServingRun
from fedlaf.experiment.stream.state import Pending, StreamState
from fedlaf.experiment.stream.summary import summary
from fedlaf.experiment.stream.trace import write
from fedlaf.method.contract import ClientRegistry, Stage, StageResult
from fedlaf.report import Report
from fedlaf.report import replace as replace_file


@dataclass
class StreamPipeline(ServingRun):
    """One run over a stream in progress; `state` and the trace are in the run's folder after each step."""

    def run(self) -> Report:
        """Enrol, then go on until training is over and nothing is pending. Raises RoundFailed."""
        self.enrolled = self.enter()
        self.weights = self.plan.initial_weights()
        while self.step():
            self._save()
        self.end()
        self._save()
        return replace(self._report(self.results, self.spent), stream=summary(self).values())

    def step(self) -> bool:
        """Do what comes next; False when nothing is left to do."""
        self._listen()
        serving = self.state.serving
        if serving is not None and (self.state.elapsed >= serving.ends or self.last):
            self.complete_serving()
        elif batch := self._batch():
            self.serve_batch(batch)
        elif not self.last:
            self._train()
        else:
            return False
        return True

    def _listen(self) -> None:
        """Issue what comes after the round that has ended, once."""
        state = self.state
        if state.heard == state.round:
            return
        now = moment(self.plan, self.roll.federation, state.round, state.events)
        if self.stream.arrivals.sees_model:
            now = seen(now, self.plan, self.roll.federation, self.weights)
        events = self.stream.arrivals.events(now)
        clients = len(self.plan.federation)
        heard = machine.issued(state, events, self._rows_left, clients)
        back = heard.identities.keys() - state.identities.keys()
        self.guard.admit(self.enrolled.nodes[heard.identities[client]] for client in sorted(back))
        self.become(heard)

    def _rows_left(self, state: StreamState, request: Arrival) -> int:
        return self.roll_of(state).rows_left(request)

    def _closing(self, state: StreamState, *, last: bool) -> tuple[str, ...]:
        servants = self.servants

        def waits(pending: Pending, now: StreamState) -> bool:
            return servants.waits(pending.request, now.round, pending.due - now.elapsed)

        def rounds_of(pending: Sequence[Pending]) -> int:
            method = self.choice(pending[0], state).method
            return method.total_rounds(self.roll_of(state).asked(pending)) if method is not None else 0

        return machine.closing(state, self.stream.service.window, waits, rounds_of, last=last)

    def _batch(self) -> tuple[Pending, ...]:
        """The requests to serve now; none while a batch is in service."""
        if self.state.serving is not None:
            return ()
        if not self.state.closed:
            self.state = replace(self.state, closed=self._closing(self.state, last=self.last))

        def alike(pending: Pending) -> object:
            chosen = self.choice(pending)
            return (chosen.name, chosen.fallback, chosen.reached, chosen.reason if not chosen.name else "")

        return machine.batch(self.state, self.stream.service.window, alike)

    def _train(self) -> None:
        """Train until something can happen, on all rows that neither are gone nor rest."""
        done, until = self.state.round, self._next_stop()
        name = "train" if done == 0 else f"train-from-{done}"
        registry, wanted = self.roll.training(), self.plan.history
        stage = Stage("train", self.plan.seed, registry, skip=done, timeout=self.plan.timeout)
        method = self.plan.train.until(until)
        result = self._stage(StageKind.TRAINING, name, method, self.weights, stage, None, history=wanted)
        self._trained(name, registry, result, until - done)

    def _trained(self, name: str, registry: ClientRegistry, result: StageResult, rounds: int) -> None:
        """The clock has gone on, and a new model is published."""
        self.histories += [result.history] if result.history else []
        self.weights, self.current = result.weights, name
        self.spent += result.cost
        there = set(registry.retain_clients)
        rows = sum(registry.retain_rows(k) for k in there)
        self.rounds += [TrainingRound(r.cost, rows, there <= set(r.asked)) for r in result.records]
        self.asked_rounds.setdefault("training", []).extend((r.asked, r.passes) for r in result.records)
        answered = {k for r in result.records for k in set(r.asked) - set(r.failed)}
        moved = self.state.moved(name, "training", rounds)
        self.state = replace(moved, weights=name, trained=moved.trained | answered)

    def _next_stop(self) -> int:
        """The next training round after which something happens."""
        state, rounds = self.state, self.plan.train.rounds
        if self.stream.arrivals.sees_model:
            return state.round + 1
        roll = self.roll
        for round_ in range(state.round + 1, rounds):
            elapsed = state.elapsed + round_ - state.round
            ahead = replace(state, round=round_, elapsed=elapsed)
            now = moment(self.plan, roll.federation, round_, state.events)
            ends = state.serving is not None and elapsed >= state.serving.ends
            changed = replace(roll, state=ahead).absent != roll.absent
            if ends or changed or self.stream.arrivals.events(now) or self._closing(ahead, last=False):
                return round_
        return rounds

    def _save(self) -> None:
        folder = self.store.folder.parent / "stream"
        write(self.state.events, folder / "trace.jsonl")
        replace_file(folder / "state.json", json.dumps(self.state.as_json()))
