"""A stage while it runs: its curve and progress, and a checkpoint after each of its rounds."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

from fedlaf.core.cost import Cost
from fedlaf.core.memory import Peak
from fedlaf.core.trees import NotStorable
from fedlaf.core.types import Weights
from fedlaf.core.weights import weights_digest
from fedlaf.experiment import interruption
from fedlaf.experiment.checkpoints import CheckpointStore, StageFingerprint
from fedlaf.experiment.curve import Curve
from fedlaf.experiment.interruption import Interrupted
from fedlaf.experiment.round_checkpoints import Checkpoint, RoundCheckpoints
from fedlaf.method.contract import Method, RoundRecord, Stage, StageResult
from fedlaf.method.history_writer import HistoryDamaged, HistoryWriter
from fedlaf.method.progress import StageProgress
from fedlaf.method.update_history import HistoryHandle, HistorySpec
from fedlaf.protocol.private_states import states_of, states_values
from fedlaf.protocol.row_counts import TaggedGrid
from fedlaf.report import Point, Watch

POINT = "point-"
"""Start of the names of groups that hold the representations of one point of the curve."""


@dataclass
class StageRun:
    """One stage, run from its beginning or from its last checkpoint; one is left every `every` rounds (0: no
    round leaves one), which takes `seconds`.
    """

    name: str
    rounds: int
    store: CheckpointStore
    fingerprint: StageFingerprint
    watch: Watch
    every: int = 1
    storable: bool = True
    seconds: float = 0.0

    def run(
        self, grid: TaggedGrid, method: Method, weights: Weights, stage: Stage, *, curve: Curve,
        history: HistorySpec,
    ) -> tuple[StageResult, list[Point]]:  # fmt: skip
        """The stage's result and curve. Raises RoundFailed, OSError for a full disk, and Interrupted after a
        round when the user wants the run to end.
        """
        if interruption.requested():
            raise Interrupted(f"before {self.name}")
        self.grid, self.curve, self.history, self.skipped = grid, curve, history, stage.skip
        made_from = {"configuration": self.fingerprint.weights, "model at its start": weights_digest(weights)}
        made_from |= {"rows of the curve": self.fingerprint.curve, **self.store.provenance}
        self.checkpoints = self.store.rounds(self.name, made_from)
        progress, self.writer = self._found(stage, needs_states=getattr(method, "clients_keep_state", True))
        self.watch.stage(self.name, self.rounds - stage.skip, len(stage.registry.present))
        points = {point.round: point for point in curve.points}
        for number, record in enumerate(progress.records if progress else (), stage.skip + 1):
            self.watch.advance(self.name, record, points.get(number))

        def on_round(record: RoundRecord, now: Weights) -> None:
            self.watch.advance(self.name, record, curve.follow(record, now))

        here = replace(
            stage, on_round=on_round, history_writer=self.writer, resumed=progress,
            on_progress=self._after_round,
        )  # fmt: skip
        with Peak() as peak:
            result = method.run(grid, weights, here)
        return replace(result, cost=result.cost + Cost(driver_memory=peak.bytes)), curve.points

    def _after_round(self, progress: StageProgress) -> None:
        ends = interruption.requested()
        if ends or (self.every and progress.done % self.every == 0):
            clock = perf_counter()
            self._save(progress)
            self.seconds += perf_counter() - clock
        if ends:
            raise Interrupted(f"after round {self.skipped + progress.done} of {self.rounds} of {self.name}")

    def _save(self, progress: StageProgress) -> None:
        if not self.storable:
            return
        points = {f"{POINT}{i}": point.represented for i, point in enumerate(self.curve.points)}
        states = self.grid.private_states()
        groups: dict[str, Any] = {
            **progress.values(),
            "curve": _curve_values(self.curve),
            "clients": None if states is None else states_values(states),
            **{name: traced for name, traced in points.items() if traced is not None},
        }
        try:
            self.checkpoints.save(progress.done, groups, constant=points)
        except NotStorable as error:
            self.storable = False
            self.watch.note(f"{self.name}: no checkpoints between its rounds, for its method keeps {error}")
            self.checkpoints.clear()
            return
        if self.writer is not None:
            self.writer.checkpointed(progress.round, oldest=self.oldest_round(progress))

    def oldest_round(self, progress: StageProgress) -> int:
        """The round, as a history counts, of the oldest checkpoint that is kept."""
        return progress.round - (progress.done - self.checkpoints.oldest)

    def _found(
        self, stage: Stage, *, needs_states: bool
    ) -> tuple[StageProgress | None, HistoryWriter | None]:
        """Where an earlier process left the stage, and a writer that goes on from there."""
        for source in self.store.earlier_rounds(self.name, self.checkpoints.made_from):
            for checkpoint in source.newest_first():
                why = self._unusable(checkpoint, stage, needs_states)
                if why:
                    source.notes.append(why)
                    continue
                self._tell(source.notes)
                try:
                    return self._taken_up(source, checkpoint, stage)
                except (HistoryDamaged, KeyError, TypeError, ValueError) as error:
                    source.notes.append(f"{error}".splitlines()[0])
            if source.notes:
                source.notes[-1] += "; the stage begins again"
                self._tell(source.notes)
        self.checkpoints.back_to(0)
        return None, self.store.history_writer(self.name, self.history)

    def _unusable(self, checkpoint: Checkpoint, stage: Stage, needs_states: bool) -> str:
        out_of_reach = checkpoint.groups.get("clients") is None or self.grid.private_states() is None
        if needs_states and out_of_reach:
            return "what its clients keep between rounds is out of this process's reach"
        failed = any(record["failed"] for record in checkpoint.groups["account"]["records"])
        return "clients failed in it" if failed and not self.store.goes_on else ""

    def _taken_up(
        self, source: RoundCheckpoints, checkpoint: Checkpoint, stage: Stage
    ) -> tuple[StageProgress, HistoryWriter | None]:
        groups = checkpoint.groups
        progress = StageProgress.of(groups)
        writer = None
        if self.history:
            handle = HistoryHandle(self.history, self.store.folder / f"{self.name}.history")
            kept = source.folder.parent / handle.folder.name
            if kept != handle.folder:
                shutil.rmtree(handle.folder, ignore_errors=True)
                shutil.copytree(kept, handle.folder)
            writer = HistoryWriter.at(
                handle, progress.round, progress.trained_rows, first=progress.round - progress.done + 1
            )
        if groups["clients"] is not None:
            self.grid.restore_states(states_of(groups["clients"]))
        points = [
            Point(**{**values, "represented": groups.get(f"{POINT}{i}")})
            for i, values in enumerate(groups["curve"]["points"])
        ]
        self.curve.go_on(points, groups["curve"]["round"], groups["curve"]["passes"], progress.weights)
        if source.folder == self.checkpoints.folder:
            self.checkpoints.back_to(progress.done)
        self.watch.note(f"{self.name}: goes on after {progress.done} rounds of {self.rounds - stage.skip}")
        return progress, writer

    def _tell(self, notes: list[str]) -> None:
        for note in notes:
            self.watch.note(f"{self.name}: {note}")
        notes.clear()


def _curve_values(curve: Curve) -> Mapping[str, Any]:
    points = [asdict(replace(point, represented=None)) for point in curve.points]
    return {"points": points, "round": curve.round, "passes": curve.passes}
