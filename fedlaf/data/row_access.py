"""Which of a client's rows were read, and how many labels: rows log it themselves when they are read."""

from __future__ import annotations

import torch
from torch import Tensor


class RowAccessLog:
    """Marks of a client's P rows (bool [P]), a count of labels, and which of the rows a selection stands for
    (int64 [N], None: all). Selections of one client share marks and count.
    """

    def __init__(self, marks: Tensor, labels: Tensor, positions: Tensor | None = None) -> None:
        self.marks, self.labels, self._positions = marks, labels, positions

    @classmethod
    def empty(cls, rows: int) -> RowAccessLog:
        """Of a client with `rows` rows, of which none was read yet."""
        return cls(torch.zeros(rows, dtype=torch.bool), torch.zeros((), dtype=torch.int64))

    def at(self, chosen: Tensor) -> RowAccessLog:
        """The log of a part of the selection: positions in it, or a mask over it."""
        here = chosen.cpu()
        if self._positions is None:
            here = here.nonzero().flatten() if here.dtype == torch.bool else here
            return RowAccessLog(self.marks, self.labels, here)
        return RowAccessLog(self.marks, self.labels, self._positions[here])

    def log_inputs(self) -> None:
        """The inputs of the whole selection were read."""
        self.marks[slice(None) if self._positions is None else self._positions] = True

    def log_labels(self, count: int) -> None:
        """So many labels were read; each time counts."""
        self.labels += count
