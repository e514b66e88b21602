"""A client's private things, and what a worker process keeps resident between messages.

Private things (teacher representations, h_f) live in Flower's `Context.state`, which stays with
the client on every transport. What can be rebuilt from the description (dataset, model) is
kept per process instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Context
from torch import Tensor

from fedlaf.models.arrays import as_tensors
from fedlaf.protocol.messages import pack, unpack


def keep(context: Context, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Keep tensors in the client's private state."""
    context.state[name] = pack({k: v.detach().cpu().numpy().copy() for k, v in tensors.items()})


def drop(context: Context, *names: str) -> None:
    """Keep those no longer; what is not there is no fault."""
    for name in names:
        context.state.pop(name, None)


LOOKED = "looked"


def looked_at(context: Context, run: str, rows: int) -> Tensor:
    """Marks (bool [`rows`]) of the client's rows that it looked at in the stage `run`."""
    record: Any = context.state.config_records.get(LOOKED, {})
    if record.get("run") != run:
        return torch.zeros(rows, dtype=torch.bool)
    bits = np.unpackbits(np.frombuffer(record["marks"], np.uint8), count=rows)
    return torch.from_numpy(bits.astype(bool))


def keep_looked_at(context: Context, run: str, marks: Tensor) -> None:
    """Keep those marks: a bit a row."""
    context.state[LOOKED] = ConfigRecord({"run": run, "marks": np.packbits(marks.numpy()).tobytes()})


def kept(context: Context, name: str) -> dict[str, Tensor]:
    """What was kept, on the CPU, to be read only. Raises LookupError that says which phase is missing."""
    if name not in context.state.array_records:
        raise LookupError(f"this client keeps no {name}: it was never taught, or lost its state")
    return as_tensors(unpack(context.state.array_records[name]))
