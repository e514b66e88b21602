"""Finished stages on disk: each result is saved as it comes, and taken up again by `resume=`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from enum import Enum
from os.path import relpath
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import load_file

from fedlaf.core.cost import Cost
from fedlaf.core.whole_file import fill, save_arrays, whole
from fedlaf.evaluation import Predictions
from fedlaf.experiment.provenance import different
from fedlaf.method.contract import Finding, RoundRecord, StageResult
from fedlaf.method.update_history import HistoryHandle, HistorySpec, HistoryWriter
from fedlaf.report import Point

NO_HISTORY = HistorySpec()
"""What most stages keep for later requests: nothing."""

ENDS = ("json", "safetensors", "curve.safetensors")
"""Of the files of a stage."""

BEGUN = "-begun"
"""After the name of a stage: what an interrupted run leaves of it."""


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
    """Results of stages by name, in the run's folder; an earlier run's are read, never changed."""

    def __init__(
        self, folder: Path, earlier: Path | None, provenance: Mapping[str, str] | None = None
    ) -> None:  # fmt: skip
        self.folder, self.earlier = folder / "stages", earlier and earlier / "stages"
        self.provenance = dict(provenance or {})
        self.notes: dict[str, str] = {}

    def put(self, name: str, fingerprint: StageFingerprint, result: StageResult, curve: list[Point]) -> None:
        """Save a finished stage. What was there under its name stays until all of it is written, and its JSON
        is there only when all else is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        index, arrays, curves = (self.folder / f"{name}.{end}" for end in ENDS)
        traced = {str(i): p.represented for i, p in enumerate(curve) if p.represented is not None}
        with ExitStack() as drafts:  # which take their names in the opposite order
            draft = drafts.enter_context(whole(index))
            fill(drafts.enter_context(whole(arrays)), result.weights)
            if traced:
                fill(drafts.enter_context(whole(curves)), traced)
            draft.write_text(json.dumps(self._record(fingerprint, result, curve)))
            index.unlink(missing_ok=True)
            curves.unlink(missing_ok=True)
        remove_begun(self.folder, name)

    def _record(
        self, fingerprint: StageFingerprint, result: StageResult, curve: list[Point]
    ) -> dict[str, object]:
        return {
            "fingerprint": fingerprint.weights,
            "curve_fingerprint": fingerprint.curve,
            "provenance": self.provenance,
            "names": list(result.weights),
            "cost": result.cost.numbers(),
            "records": [asdict(r) for r in result.records],
            "findings": [asdict(finding) for finding in result.findings],
            "curve": [asdict(replace(point, represented=None)) for point in curve],
            "history": result.history and self._relative(result.history),
        }

    def put_begun(
        self, name: str, fingerprint: StageFingerprint, result: StageResult, curve: list[Point]
    ) -> None:
        """Save a stage that was interrupted after a round, its history in a place of its own."""
        history = result.history
        if history is not None:
            aside = self.folder / f"{name}{BEGUN}.history"
            shutil.rmtree(aside, ignore_errors=True)
            history = replace(history, folder=history.folder.rename(aside))
        self.put(f"{name}{BEGUN}", fingerprint, replace(result, history=history), curve)

    def begun(
        self, name: str, fingerprint: StageFingerprint, history: HistorySpec
    ) -> tuple[StageResult, list[Point]] | None:
        """As `get`: the stage as an earlier run was interrupted in it, with the records of its rounds."""
        return self.get(f"{name}{BEGUN}", fingerprint, history)

    def history_writer(
        self, name: str, spec: HistorySpec, begun: HistoryHandle | None = None
    ) -> HistoryWriter | None:
        """Where a stage that is to be run keeps what is needed of it later, after what it kept until it was
        interrupted; None when nothing is.
        """
        handle = HistoryHandle(spec, self.folder / f"{name}.history")
        return HistoryWriter(handle, None if begun is None else begun.folder) if spec else None

    def _relative(self, history: HistoryHandle) -> dict[str, object]:
        # A history is large: a later run refers to that of an earlier one, by the path from here to there.
        return {**asdict(history.spec), "folder": relpath(history.folder, self.folder)}

    def predictions(self, name: str, fingerprint: str, make: Callable[[], Predictions]) -> Predictions:
        """What a model predicts: as an earlier run left it under `name` from the same values, else made.

        Saved as float32, which is what networks compute in.
        """
        file = f"{name}.predictions.safetensors"
        found = _predictions(self.earlier / file, fingerprint) if self.earlier else None
        found = found or make()
        self.folder.mkdir(parents=True, exist_ok=True)
        save_arrays(self.folder / file, found.arrays(), {"fingerprint": fingerprint})
        return found

    def get(
        self, name: str, fingerprint: StageFingerprint, history: HistorySpec = NO_HISTORY
    ) -> tuple[StageResult, list[Point]] | None:
        """The stage as an earlier run left it; None when it has none that is the same: of the same values and
        provenance, without failed clients, and with enough history for `history`.

        `notes` says in a line what was taken up and what must be computed again. A curve that was measured on
        other rows is left out.
        """
        if self.earlier is None or not (self.earlier / f"{name}.json").is_file():
            return None
        record = json.loads((self.earlier / f"{name}.json").read_text())
        handle = _history(record.get("history"), self.earlier)
        lacks = bool(history) and not (handle and handle.spec.covers(history))
        why = self._differs(record, fingerprint, lacks)
        self.notes[name] = f"computed again: {why}" if why else f"taken up from {self.earlier}"
        if why:
            return None
        held = load_file(self.earlier / f"{name}.safetensors")
        weights = {key: held[key] for key in record["names"]}
        records = tuple(_record(r) for r in record["records"])
        same = record["curve_fingerprint"] == fingerprint.curve
        curve = self._curve(name, record["curve"]) if same else []
        findings = tuple(Finding(**finding) for finding in record.get("findings", ()))
        return StageResult(weights, Cost.of(record["cost"]), records, findings, handle), curve

    def _differs(self, record: dict[str, Any], fingerprint: StageFingerprint, lacks_history: bool) -> str:
        """Why an earlier stage is not the same; empty for the same."""
        if record["fingerprint"] != fingerprint.weights:
            return "the configuration has changed"
        changed = different(self.provenance, record.get("provenance", {}))
        if changed:
            return f"changed since: {', '.join(changed)}"
        if any(round_["failed"] for round_ in record["records"]):
            return "clients failed in it"
        return "it kept too little of its updates" if lacks_history else ""

    def _curve(self, name: str, points: list[dict[str, Any]]) -> list[Point]:
        path = (self.earlier or self.folder) / f"{name}.curve.safetensors"
        traced = load_file(path) if path.is_file() else {}
        return [Point(**{**point, "represented": traced.get(str(i))}) for i, point in enumerate(points)]


def remove_begun(stages: Path, name: str = "*") -> None:
    """Remove what interrupted runs left of a stage, now that it is finished; by default of all."""
    for path in stages.glob(f"{name}{BEGUN}.*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def saved_stages(folder: Path) -> list[str]:
    """The stages that a run has saved in its folder, in the order in which they ended; how many rounds of one
    that was interrupted.
    """
    paths = sorted((folder / "stages").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return [_named(path) for path in paths]


def _named(path: Path) -> str:
    if not path.stem.endswith(BEGUN):
        return path.stem
    rounds = len(json.loads(path.read_text())["records"])
    return f"{path.stem.removesuffix(BEGUN)} ({rounds} rounds of it)"


def _history(saved: dict[str, Any] | None, stages: Path) -> HistoryHandle | None:
    if saved is None:
        return None
    folder = stages / saved["folder"]
    spec = HistorySpec(**{k: v for k, v in saved.items() if k != "folder"})
    return HistoryHandle(spec, folder) if folder.is_dir() else None


def _predictions(path: Path, fingerprint: str) -> Predictions | None:
    if not path.is_file():
        return None
    with safe_open(path, "numpy") as file:
        if (file.metadata() or {}).get("fingerprint") != fingerprint:
            return None
        return Predictions.from_arrays({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def _record(saved: dict[str, object]) -> RoundRecord:
    values = dict(saved)
    values["cost"] = Cost.of(values["cost"])  # type: ignore[arg-type]
    values["asked"] = tuple(values["asked"])  # type: ignore[arg-type]
    values["failed"] = {int(k): v for k, v in values["failed"].items()}  # type: ignore[attr-defined]
    return RoundRecord(**values)  # type: ignore[arg-type]
