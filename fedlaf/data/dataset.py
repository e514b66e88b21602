"""A dataset as uint8 tensors, and rows with and without their labels as two types."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedlaf.data.row_access import RowAccessLog


class _Inputs:
    def __init__(self, x: Tensor, access_log: RowAccessLog | None = None) -> None:
        self._x, self._access_log = x, access_log

    @property
    def x(self) -> Tensor:
        """The inputs; rows of a client note that they were looked at."""
        if self._access_log is not None:
            self._access_log.note()
        return self._x

    def __len__(self) -> int:
        return len(self._x)


class Rows(_Inputs):
    """Inputs without labels, uint8 [N, channels, height, width]: all that LAF code is given."""

    def at(self, positions: Tensor) -> Rows:
        """The rows at `positions` (int64 [M])."""
        return Rows(self._x[positions], self._access_log and self._access_log.at(positions))


class LabelledRows(_Inputs):
    """Inputs, uint8 [N, channels, height, width], with labels `y`, int64 [N]."""

    def __init__(self, x: Tensor, y: Tensor, access_log: RowAccessLog | None = None) -> None:
        super().__init__(x, access_log)
        self.y = y

    def at(self, positions: Tensor) -> LabelledRows:
        """The rows at `positions` (int64 [M])."""
        access_log = self._access_log and self._access_log.at(positions)
        return LabelledRows(self._x[positions], self.y[positions], access_log)

    def unlabelled(self) -> Rows:
        """The same inputs, as the type that has no labels."""
        return Rows(self._x, self._access_log)

    def logged_in(self, access_log: RowAccessLog) -> LabelledRows:
        """The same rows, which note in `access_log` when their inputs are taken."""
        return LabelledRows(self._x, self.y, access_log)


@dataclass(frozen=True)
class Dataset:
    """A training and a test set of one name."""

    name: str
    train: LabelledRows
    test: LabelledRows
    num_classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an input."""
        channels, height, width = self.train.x.shape[1:]
        return int(channels), int(height), int(width)


def as_input(x: Tensor, device: torch.device) -> Tensor:
    """uint8 [N, c, h, w] as float32 in [0, 1] on `device`, channels last (faster convolutions)."""
    return (moved(x, device).float() / 255.0).contiguous(memory_format=torch.channels_last)


def moved(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on `device`; to a GPU by way of pinned memory, so that nobody waits for the transfer."""
    pinned = device.type == "cuda" and x.device.type == "cpu"
    return x.pin_memory().to(device, non_blocking=True) if pinned else x.to(device)
