"""After a request, by option: what holds the influence of its rows is deleted from the run's folder.

The numbers of the stages stay (costs, records, curves), and the result of the request, so that a run that
goes on has its report; the models from before the request, and what they say of rows, are gone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from fedlaf.core.safe_files import write_text
from fedlaf.core.types import ClientId
from fedlaf.experiment.client_states import ENDING
from fedlaf.method.update_history import INDEX, TRAINED, contaminated, file_of


def erase(
    stages: Path,
    request: str,
    before: Iterable[str],
    withdrawn: Iterable[ClientId],
    forgetting: Sequence[ClientId],
) -> list[str]:
    """Delete the models of the stages `before` a request (also those that rounds began with, once one of the
    `forgetting` clients had contributed), and the stored updates of clients that withdrew in it. Gives the
    names of all stages that were erased for it, now or before.
    """
    names = list(before)
    for path in contaminated([stages / f"{name}.history" for name in names], forgetting):
        path.unlink(missing_ok=True)
    for name in names:
        _erase_stage(stages, name, request)
    for pattern in ("*.curve.safetensors", f"{request}-*.predictions.safetensors", f"*{ENDING}"):
        for path in stages.glob(pattern):
            path.unlink()
    for history in stages.glob("*.history"):
        for client in withdrawn:
            _forget_updates(history, client)
    records = {path.stem: json.loads(path.read_text()) for path in stages.glob("*.json")}
    return sorted(name for name, record in records.items() if record.get("erased") == request)


def _erase_stage(stages: Path, name: str, request: str) -> None:
    path = stages / f"{name}.json"
    if path.is_file():
        record = json.loads(path.read_text())
        if "erased" not in record:  # the note comes first: a run that is killed here finds it
            write_text(path, json.dumps({**record, "erased": request}))
    (stages / f"{name}.safetensors").unlink(missing_ok=True)
    shutil.rmtree(stages / f"{name}.rounds", ignore_errors=True)


def _forget_updates(history: Path, client: ClientId) -> None:
    for path in history.rglob(file_of(client)):
        path.unlink()
    for path in (*history.rglob(INDEX), history / TRAINED):
        if path.is_file():
            write_text(path, json.dumps(_without(json.loads(path.read_text()), str(client))), sync=False)


def _without(index: dict[str, object], client: str) -> dict[str, object]:
    """An index of clients, or of indices of clients, without one of them."""
    return {
        key: _without(value, client) if isinstance(value, dict) else value
        for key, value in index.items()
        if key != client
    }
