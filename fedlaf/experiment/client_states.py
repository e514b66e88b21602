"""What clients keep to themselves at the end of a stage, for a run that goes on with the next one.

Only the last stage's is kept: a run that goes on takes all that is finished as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from flwr.app import RecordDict
from safetensors import safe_open

from fedlaf.core.safe_files import array_bytes, write_bytes
from fedlaf.core.trees import put_together, taken_apart
from fedlaf.core.types import ClientId
from fedlaf.protocol.private_states import states_of, states_values

ENDING = ".clients.safetensors"
"""Of the file of a stage's states, after its name."""


def save(stages: Path, stage: str, states: Mapping[ClientId, RecordDict] | None) -> None:
    """Note the states at the end of a stage, where there are any. Raises OSError."""
    held = states_values(states or {})
    if held:
        plain, arrays = taken_apart(held)
        stages.mkdir(parents=True, exist_ok=True)
        write_bytes(stages / f"{stage}{ENDING}", array_bytes(arrays, {"plain": json.dumps(plain)}))


def only(stages: Path, stage: str) -> None:
    """Remove what was noted at the end of other stages."""
    for path in stages.glob(f"*{ENDING}"):
        if path.name != f"{stage}{ENDING}":
            path.unlink()


def load(stages: Path, stage: str) -> dict[ClientId, RecordDict]:
    """The states at the end of a stage; none where none were noted."""
    path = stages / f"{stage}{ENDING}"
    if not path.is_file():
        return {}
    with safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return states_of(put_together(json.loads(file.metadata()["plain"]), arrays))
