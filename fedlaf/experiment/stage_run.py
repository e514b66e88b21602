"""A stage while it runs: its curve and progress, and what is saved of it when the user interrupts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from flwr.serverapp import Grid

from fedlaf.core.cost import Cost, total
from fedlaf.core.memory import Peak
from fedlaf.core.types import Weights
from fedlaf.experiment import interruption
from fedlaf.experiment.checkpoints import BEGUN, CheckpointStore, StageFingerprint
from fedlaf.experiment.curve import Curve
from fedlaf.experiment.interruption import Interrupted
from fedlaf.method.contract import Method, RoundRecord, Stage, StageResult
from fedlaf.method.update_history import HistorySpec, HistoryWriter
from fedlaf.protocol.row_counts import TaggedGrid
from fedlaf.report import Point, Watch


@dataclass
class StageRun:
    """One stage, run from its beginning or from where an interrupted run left it.

    Only a `continuable` one is saved half-way: training, whose state after a round is its weights.
    """

    name: str
    rounds: int
    store: CheckpointStore
    fingerprint: StageFingerprint
    watch: Watch
    continuable: bool
    records: list[RoundRecord] = field(default_factory=list)

    def run(
        self,
        grid: Grid,
        method: Method,
        weights: Weights,
        stage: Stage,
        *,
        curve: Curve,
        history: HistorySpec,
    ) -> tuple[StageResult, list[Point]]:
        """The stage's result and curve. Raises RoundFailed; Interrupted when the user wants it to end."""
        if interruption.requested():
            raise Interrupted(f"before {self.name}")
        found = self.store.begun(self.name, self.fingerprint, history) if self.continuable else None
        begun, points = found or (StageResult(weights, Cost(), ()), [])
        self.records = list(begun.records)
        writer = self.store.history_writer(self.name, history, begun.history)
        self.watch.stage(self.name, self.rounds - stage.skip)
        for _ in self.records:
            self.watch.advance(self.name)
        if self.records:
            taken_up = self.store.notes[self.name + BEGUN]
            self.watch.note(f"{self.name}: {len(self.records)} rounds {taken_up}")
            curve.go_on(points, begun.records, begun.weights)
        from_here = replace(
            stage, skip=stage.skip + len(begun.records), history_writer=writer,
            on_round=self._on_round(stage.skip, curve, writer, begun.cost),
        )  # fmt: skip
        with Peak() as peak:
            result = method.run(TaggedGrid(grid, self.name), begun.weights, from_here)
        cost = _joined(begun.cost, result.cost) + Cost(driver_memory=peak.bytes)
        return replace(result, cost=cost, records=(*begun.records, *result.records)), curve.points

    def _on_round(
        self, skipped: int, curve: Curve, writer: HistoryWriter | None, before: Cost
    ) -> Callable[[RoundRecord, Weights], None]:
        own: list[RoundRecord] = []

        def ended(record: RoundRecord, now: Weights) -> None:
            curve.follow(record, now)
            self.watch.advance(self.name)
            own.append(record)
            self.records.append(record)
            done = skipped + len(self.records)
            if done >= self.rounds or not interruption.requested():
                return
            if self.continuable:
                cost = _joined(before, total(each.cost for each in own))
                handle = None if writer is None else writer.handle
                result = StageResult(now, cost, tuple(self.records), (), handle)
                self.store.put_begun(self.name, self.fingerprint, result, curve.points)
            raise Interrupted(f"after round {done} of {self.rounds} of {self.name}")

        return ended


def _joined(before: Cost, after: Cost) -> Cost:
    """The cost of a stage in two parts: clients read the same rows in both, which count once."""
    most = {
        name: max(getattr(before, name), getattr(after, name))
        for name in ("retain_rows_read", "forget_rows_read")
    }
    return replace(before + after, **most)
