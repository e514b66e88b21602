"""What the weights of a stage depend on, as a hash."""

from __future__ import annotations

import json
from pathlib import Path

from fedlaf.experiment.checkpoints import StageFingerprint, StageKind
from fedlaf.experiment.plan import FEDERATION, Plan
from fedlaf.method.contract import Stage


def stage_fingerprint(
    plan: Plan, kind: StageKind, stage: Stage, *, rounds: int, start: str
) -> StageFingerprint:
    """The sections of the configuration that a stage of this kind depends on, and what it is given.

    Training does not depend on how rows are forgotten: only on which are removed, rounds and seed, and after
    a request on the weights that its method left. `start` is the hash of the weights at its start.
    """
    curve = plan.fingerprint(*FEDERATION, "train", "requests", rows=plan.curve_rows)
    later = bool(stage.skip) or kind is StageKind.FORGETTING
    depends: dict[str, object] = {"start": start} if later else {}
    if kind is StageKind.TRAINING:
        removed = {str(k): rows for k, rows in stage.registry.removed.rows.items()}
        depends |= {"removed": removed, "rounds": rounds, "stage_seed": stage.seed}
    return StageFingerprint(plan.fingerprint(*FEDERATION, *kind.sections, **depends), curve)


def saved_digest(stages: Path, name: str) -> str:
    """The hash of the weights that a saved stage has, or had before they were erased."""
    return str(json.loads((stages / f"{name}.json").read_text())["digest"])
