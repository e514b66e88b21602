"""Finished stages on disk: each result is saved as it comes, and taken up again by `resume=`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from enum import Enum
from os.path import relpath
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from fedlaf.core.cost import Cost
from fedlaf.core.types import Weights
from fedlaf.core.weights import weights_digest
from fedlaf.core.whole_file import fill, save_arrays, sync_to_disk, whole
from fedlaf.evaluation import Predictions
from fedlaf.experiment.provenance import different
from fedlaf.experiment.round_checkpoints import RoundCheckpoints
from fedlaf.method.contract import Finding, StageResult
from fedlaf.method.history_writer import HistoryWriter, settle
from fedlaf.method.progress import record_of
from fedlaf.method.update_history import HistoryHandle, HistorySpec
from fedlaf.report import Point

NO_HISTORY = HistorySpec()
"""What most stages keep for later requests: nothing."""

ENDS = ("json", "safetensors", "curve.safetensors")  # of a stage's files

DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError)
"""What reading a damaged file raises."""


class StageKind(Enum):
    """Kinds of stages, by the sections of the configuration that their weights depend on."""

    TRAINING = ("train",)
    FORGETTING = ("train", "requests", "forget", "client")

    def __init__(self, *sections: str) -> None:
        self.sections = sections


@dataclass(frozen=True)
class StageFingerprint:
    """Hashes of what a stage's weights depend on, and of what its curve does."""

    weights: str
    curve: str


class CheckpointStore:
    """Results of stages by name, in the run's folder; an earlier run's are read, never changed.

    With `goes_on`, what lies in the run's own folder is taken up first: the run goes on that made it.
    """

    def __init__(
        self, folder: Path, earlier: Path | None, provenance: Mapping[str, str] | None = None,
        *, goes_on: bool = False,
    ) -> None:  # fmt: skip
        self.folder, self.earlier = folder / "stages", earlier and earlier / "stages"
        self.provenance = dict(provenance or {})
        self.notes: dict[str, str] = {}
        self.goes_on = goes_on or self.folder == self.earlier
        self._taken_up: set[Path] = set()
        own = [self.folder] if self.goes_on else []
        self.sources = own + ([self.earlier] if self.earlier and self.earlier not in own else [])

    def put(self, name: str, fingerprint: StageFingerprint, result: StageResult, curve: list[Point]) -> None:
        """Save a finished stage. What was there under its name stays until all of it is written, and its JSON
        is there only when all else is.

        A stage that was taken up from this very folder is there already. Raises OSError.
        """
        if self.took_up(name):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        index, arrays, curves = (self.folder / f"{name}.{end}" for end in ENDS)
        traced = {str(i): p.represented for i, p in enumerate(curve) if p.represented is not None}
        with ExitStack() as drafts:  # which take their names in the opposite order
            draft = drafts.enter_context(whole(index, sync=True))
            fill(drafts.enter_context(whole(arrays, sync=True)), result.weights)
            if traced:
                fill(drafts.enter_context(whole(curves)), traced)
            draft.write_text(json.dumps(self._record(fingerprint, result, curve)))
            index.unlink(missing_ok=True)
            curves.unlink(missing_ok=True)
        sync_to_disk(self.folder)
        RoundCheckpoints(self.folder / f"{name}.rounds", {}).clear()
        if result.history is not None and result.history.folder.parent == self.folder:
            settle(result.history.folder)

    def _record(
        self, fingerprint: StageFingerprint, result: StageResult, curve: list[Point]
    ) -> dict[str, object]:
        return {
            "fingerprint": fingerprint.weights,
            "curve_fingerprint": fingerprint.curve,
            "provenance": self.provenance,
            "names": list(result.weights),
            "digest": weights_digest(result.weights),
            "cost": result.cost.numbers(),
            "records": [asdict(r) for r in result.records],
            "findings": [asdict(finding) for finding in result.findings],
            "curve": [asdict(replace(point, represented=None)) for point in curve],
            "history": result.history and self._relative(result.history),
        }

    def took_up(self, name: str) -> bool:
        """Whether a stage was taken up from the run's own folder."""
        return self.folder / f"{name}.json" in self._taken_up

    def rounds(self, name: str, made_from: Mapping[str, Any]) -> RoundCheckpoints:
        """Where a stage that is to be run leaves its checkpoints."""
        return RoundCheckpoints(self.folder / f"{name}.rounds", made_from)

    def earlier_rounds(self, name: str, made_from: Mapping[str, Any]) -> list[RoundCheckpoints]:
        """Where earlier processes may have left checkpoints of a stage."""
        return [RoundCheckpoints(folder / f"{name}.rounds", made_from) for folder in self.sources]

    def history_writer(self, name: str, spec: HistorySpec) -> HistoryWriter | None:
        """Where a stage that is to be run keeps what is needed of it later; None when nothing is."""
        return HistoryWriter(HistoryHandle(spec, self.folder / f"{name}.history")) if spec else None

    def _relative(self, history: HistoryHandle) -> dict[str, object]:
        # A history is large: a later run refers to that of an earlier one, by the path from here to there.
        return {**asdict(history.spec), "folder": relpath(history.folder, self.folder)}

    def predictions(self, name: str, fingerprint: str, make: Callable[[], Predictions]) -> Predictions:
        """What a model predicts: as an earlier run left it under `name` from the same values, else made.

        Saved as float32, which is what networks compute in.
        """
        file = f"{name}.predictions.safetensors"
        for source in self.sources:
            found = _predictions(source / file, fingerprint)
            if found is not None and source == self.folder:
                return found
            if found is not None:
                break
        else:
            found = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        save_arrays(self.folder / file, found.arrays(), {"fingerprint": fingerprint})
        return found

    def get(
        self, name: str, fingerprint: StageFingerprint, history: HistorySpec = NO_HISTORY
    ) -> tuple[StageResult, list[Point]] | None:
        """The stage as an earlier run left it; None when it has none that is the same: of the same values and
        provenance, whole, without failed clients (unless the run goes on), and with enough history for
        `history`. One that was erased in the run that goes on has no weights.

        `notes` says in a line what was taken up and what must be computed again. A curve that was measured on
        other rows is left out.
        """
        for source in self.sources:
            path = source / f"{name}.json"
            if not path.is_file():
                continue
            try:
                why, found = self._read(path, fingerprint, history)
            except DAMAGED as error:
                line = f"{type(error).__name__}: {error}".splitlines()[0]
                why, found = f"{source / name} is damaged ({line})", None
            self.notes[name] = f"computed again: {why}" if why else f"taken up from {source}"
            if found is not None:
                self._taken_up.add(path)
                return found
        return None

    def _read(
        self, path: Path, fingerprint: StageFingerprint, history: HistorySpec
    ) -> tuple[str, tuple[StageResult, list[Point]] | None]:
        """Why an earlier stage cannot be taken up, or what it is."""
        record = json.loads(path.read_text())
        handle = _history(record.get("history"), path.parent)
        lacks = bool(history) and not (handle and handle.spec.covers(history))
        why = self._differs(record, fingerprint, lacks, own=path.parent == self.folder)
        if why:
            return why, None
        weights: Weights = {}
        if "erased" not in record:
            held = load_file(path.with_suffix(".safetensors"))
            weights = {key: held[key] for key in record["names"]}
            if weights_digest(weights) != record["digest"]:
                raise ValueError("its weights have another hash")
        records = tuple(record_of(r) for r in record["records"])
        same = record["curve_fingerprint"] == fingerprint.curve
        curve = _curve(path.with_name(f"{path.stem}.curve.safetensors"), record["curve"]) if same else []
        findings = tuple(Finding(**finding) for finding in record.get("findings", ()))
        return "", (StageResult(weights, Cost.of(record["cost"]), records, findings, handle), curve)

    def _differs(
        self, record: dict[str, Any], fingerprint: StageFingerprint, lacks_history: bool, *, own: bool
    ) -> str:
        """Why an earlier stage is not the same; empty for the same."""
        if record["fingerprint"] != fingerprint.weights:
            return "the configuration has changed"
        changed = different(self.provenance, record.get("provenance", {}))
        if changed:
            return f"changed since: {', '.join(changed)}"
        if not own and "erased" in record:
            return f"it was erased after {record['erased']}"
        if not own and any(round_["failed"] for round_ in record["records"]):
            return "clients failed in it"
        return "it kept too little of its updates" if lacks_history else ""


def saved_stages(folder: Path) -> list[str]:
    """The stages that a run has saved in its folder, in the order in which they ended; how many rounds of one
    that has not.
    """
    stages = folder / "stages"
    ended = sorted(stages.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    last = {place.stem: max(place.glob("round-*.json"), default=None) for place in stages.glob("*.rounds")}
    left = [f"{name} ({int(path.stem[6:])} rounds of it)" for name, path in sorted(last.items()) if path]
    return [*(path.stem for path in ended if not path.stem.endswith(".result")), *left]


def _curve(path: Path, points: list[dict[str, Any]]) -> list[Point]:
    traced = load_file(path) if path.is_file() else {}
    return [Point(**{**point, "represented": traced.get(str(i))}) for i, point in enumerate(points)]


def _history(saved: dict[str, Any] | None, stages: Path) -> HistoryHandle | None:
    if saved is None:
        return None
    folder = stages / saved["folder"]
    spec = HistorySpec(**{k: v for k, v in saved.items() if k != "folder"})
    return HistoryHandle(spec, folder) if folder.is_dir() else None


def _predictions(path: Path, fingerprint: str) -> Predictions | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, "numpy") as file:
            if (file.metadata() or {}).get("fingerprint") != fingerprint:
                return None
            return Predictions.from_arrays({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except DAMAGED:
        return None
