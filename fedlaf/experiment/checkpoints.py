"""Finished stages on disk: each result is saved as it comes, and taken up again by `resume=`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fedlaf.core.cost import Cost
from fedlaf.evaluation import Predictions
from fedlaf.method.contract import Finding, Outcome, RoundRecord
from fedlaf.method.update_history import Keep, Kept, Recorder
from fedlaf.report import Point

NOTHING = Keep()
"""What most stages keep."""


@dataclass(frozen=True)
class MadeFrom:
    """Hashes of what a stage's weights depend on, and of what its curve does."""

    weights: str
    curve: str


class Shelf:
    """Results of stages by name, in the run's folder; an earlier run's are read, never changed."""

    def __init__(self, folder: Path, earlier: Path | None) -> None:
        self.folder, self.earlier = folder / "stages", earlier and earlier / "stages"

    def put(self, name: str, made_from: MadeFrom, outcome: Outcome, curve: list[Point]) -> None:
        """Save a finished stage; its JSON goes first and comes last, so that it is there only when all is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        held = {key: np.asarray(array, order="C") for key, array in outcome.weights.items()}
        save_file(held, self.folder / f"{name}.safetensors")
        record = {
            "fingerprint": made_from.weights,
            "curve_fingerprint": made_from.curve,
            "names": list(outcome.weights),
            "cost": outcome.cost.numbers(),
            "records": [asdict(r) for r in outcome.records],
            "findings": [asdict(finding) for finding in outcome.findings],
            "curve": [asdict(point) for point in curve],
            "kept": outcome.kept and self._referred(outcome.kept),
        }
        draft = self.folder / f"{name}.json.part"
        draft.write_text(json.dumps(record))
        draft.replace(self.folder / f"{name}.json")

    def recorder(self, name: str, keep: Keep) -> Recorder | None:
        """Where a stage that is to be run keeps what is needed of it later; None when nothing is."""
        return Recorder(Kept(keep, self.folder / f"{name}.records")) if keep else None

    def _referred(self, kept: Kept) -> dict[str, object]:
        # Records are large: a later run refers to those of an earlier one, by the way from here to there.
        return {**asdict(kept.keep), "folder": relpath(kept.folder, self.folder)}

    def predictions(self, name: str, made_from: str, make: Callable[[], Predictions]) -> Predictions:
        """What a model predicts: as an earlier run left it under `name` from the same values, else made.

        Saved as float32, which is what networks compute in.
        """
        file = f"{name}.predictions.safetensors"
        found = _predictions(self.earlier / file, made_from) if self.earlier else None
        found = found or make()
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f"{file}.part"
        save_file(found.arrays(), draft, metadata={"made_from": made_from})
        draft.replace(self.folder / file)
        return found

    def get(self, name: str, made_from: MadeFrom, keep: Keep = NOTHING) -> tuple[Outcome, list[Point]] | None:
        """The stage as an earlier run left it; None when it has none made from the same values, or
        one whose records are not enough for `keep`.

        A curve that was measured on other rows is left out.
        """
        if self.earlier is None or not (self.earlier / f"{name}.json").is_file():
            return None
        record = json.loads((self.earlier / f"{name}.json").read_text())
        kept = _kept(record.get("kept"), self.earlier)
        missing = keep and not (kept and kept.keep.covers(keep))
        if record["fingerprint"] != made_from.weights or missing:
            return None
        held = load_file(self.earlier / f"{name}.safetensors")
        weights = {key: held[key] for key in record["names"]}
        records = tuple(_record(r) for r in record["records"])
        same = record["curve_fingerprint"] == made_from.curve
        curve = [Point(**point) for point in record["curve"]] if same else []
        findings = tuple(Finding(**finding) for finding in record.get("findings", ()))
        return Outcome(weights, Cost.of(record["cost"]), records, findings, kept), curve


def _kept(saved: dict[str, Any] | None, stages: Path) -> Kept | None:
    if saved is None:
        return None
    folder = stages / saved["folder"]
    keep = Keep(**{k: v for k, v in saved.items() if k != "folder"})
    return Kept(keep, folder) if folder.is_dir() else None


def _predictions(path: Path, made_from: str) -> Predictions | None:
    if not path.is_file():
        return None
    with safe_open(path, "numpy") as file:
        if (file.metadata() or {}).get("made_from") != made_from:
            return None
        return Predictions.from_arrays({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def _record(saved: dict[str, object]) -> RoundRecord:
    values = dict(saved)
    values["cost"] = Cost.of(values["cost"])  # type: ignore[arg-type]
    values["asked"] = tuple(values["asked"])  # type: ignore[arg-type]
    values["failed"] = {int(k): v for k, v in values["failed"].items()}  # type: ignore[attr-defined]
    return RoundRecord(**values)  # type: ignore[arg-type]
