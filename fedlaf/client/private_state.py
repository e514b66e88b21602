"""A client's private state: what it keeps to itself between messages.

It lives in Flower's `Context.state`, which stays with the client on every transport. What can be rebuilt
from the specification (rows, model) is kept per process instead (see `fedlaf.client.runtime`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, RecordDict
from torch import Tensor

from fedlaf.models.arrays import arrays_of, as_tensors
from fedlaf.protocol.messages import pack, unpack

ACCESS = "row_access"
"""Name of the record of rows that were read."""


class PrivateState:
    """Named groups of tensors of one client, and which of its rows were read in a stage."""

    def __init__(self, records: RecordDict) -> None:
        self._records = records

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep copies of tensors under `name`."""
        self._records[name] = pack(arrays_of(tensors))

    def get(self, name: str) -> dict[str, Tensor]:
        """The tensors kept under `name`, on the CPU, read-only.

        Raises LookupError when there are none: an earlier phase was missed, or the state was lost.
        """
        if name not in self._records.array_records:
            raise LookupError(f"this client holds no {name!r}: it missed an earlier phase or lost its state")
        return as_tensors(unpack(self._records.array_records[name]))

    def clear(self) -> None:
        """Drop all tensors."""
        for name in list(self._records.array_records):
            self._records.pop(name)

    def drop(self, *names: str) -> None:
        """Drop the tensors kept under `names`; names without tensors are ignored."""
        for name in names:
            self._records.pop(name, None)

    def rows_read(self, run: str, rows: int) -> Tensor:
        """Which of the client's `rows` rows were read in the stage `run`, bool [rows]."""
        record: Any = self._records.config_records.get(ACCESS, {})
        if record.get("run") != run:
            return torch.zeros(rows, dtype=torch.bool)
        bits = np.unpackbits(np.frombuffer(record["marks"], np.uint8), count=rows)
        return torch.from_numpy(bits.astype(bool))

    def put_rows_read(self, run: str, marks: Tensor) -> None:
        """Keep which rows were read (bool [rows]): one bit a row."""
        self._records[ACCESS] = ConfigRecord({"run": run, "marks": np.packbits(marks.numpy()).tobytes()})
