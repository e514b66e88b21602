"""Which of a client's rows were looked at: rows that note it themselves when their inputs are taken."""

from __future__ import annotations

import torch
from torch import Tensor


class RowAccessLog:
    """Marks of a client's P rows, and which of them a selection stands for (int64 [N], None: all)."""

    def __init__(self, marks: Tensor, positions: Tensor | None = None) -> None:
        self.marks, self._positions = marks, positions

    @classmethod
    def nowhere(cls, rows: int) -> RowAccessLog:
        """No row of `rows` was looked at yet."""
        return cls(torch.zeros(rows, dtype=torch.bool))

    def at(self, chosen: Tensor) -> RowAccessLog:
        """The marks of a part of the selection: positions in it, or a mask over it."""
        here = chosen.cpu()
        if self._positions is None:
            return RowAccessLog(self.marks, here.nonzero().flatten() if here.dtype == torch.bool else here)
        return RowAccessLog(self.marks, self._positions[here])

    def note(self) -> None:
        """The whole selection was looked at."""
        self.marks[slice(None) if self._positions is None else self._positions] = True
