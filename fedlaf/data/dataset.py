"""A dataset as tensors, how its inputs become a model's, and rows with and without labels as two types."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedlaf.core.errors import require
from fedlaf.core.types import Shape
from fedlaf.data.row_access import RowAccessLog


class _Inputs:
    def __init__(self, x: Tensor, access_log: RowAccessLog | None = None) -> None:
        self._x, self._access_log = x, access_log

    @property
    def x(self) -> Tensor:
        """The inputs; reading those of a client is logged."""
        if self._access_log is not None:
            self._access_log.log_inputs()
        return self._x

    def __len__(self) -> int:
        return len(self._x)


class Rows(_Inputs):
    """Inputs [N, ...] without labels: all that LAF code is given."""

    def at(self, positions: Tensor) -> Rows:
        """The rows at `positions` (int64 [M])."""
        return Rows(self._x[positions], self._access_log and self._access_log.at(positions))


class LabelledRows(_Inputs):
    """Inputs [N, ...] with labels `y`, int64 [N]."""

    def __init__(self, x: Tensor, y: Tensor, access_log: RowAccessLog | None = None) -> None:
        super().__init__(x, access_log)
        self._y = y

    @property
    def y(self) -> Tensor:
        """The labels; reading those of a client is counted."""
        if self._access_log is not None:
            self._access_log.log_labels(len(self._y))
        return self._y

    def at(self, positions: Tensor) -> LabelledRows:
        """The rows at `positions` (int64 [M])."""
        access_log = self._access_log and self._access_log.at(positions)
        return LabelledRows(self._x[positions], self._y[positions], access_log)

    def unlabelled(self) -> Rows:
        """The same inputs, as the type that has no labels."""
        return Rows(self._x, self._access_log)

    def logged_in(self, access_log: RowAccessLog) -> LabelledRows:
        """The same rows, which log in `access_log` what is read of them."""
        return LabelledRows(self._x, self._y, access_log)


@dataclass(frozen=True)
class Dataset:
    """A training and a test set of one name, inputs [N, ...] of one dtype and shape.

    The dtype says how rows become a model's input (`as_input`): uint8 are images of 0 to 255, floats go in
    as they are. `groups`, int64 [N], names the natural group (a writer, a device) of each training row.
    Raises InvalidValue for tensors that do not fit each other, labels outside 0 to `num_classes` - 1, and
    floats that are not finite.
    """

    name: str
    train: LabelledRows
    test: LabelledRows
    num_classes: int
    groups: Tensor | None = None

    def __post_init__(self) -> None:
        like = self.train.x
        for part, rows in (("train", self.train), ("test", self.test)):
            x, y = rows.x, rows.y
            alike = (x.shape[1:], x.dtype) == (like.shape[1:], like.dtype)
            expected = f"{like.dtype} inputs of shape {list(like.shape[1:])}, as in train"
            require(alike, f"{part}_x", expected, f"{x.dtype} {list(x.shape[1:])}")
            fit = y.dtype == torch.int64 and y.shape == (len(x),)
            require(fit, f"{part}_y", f"int64 labels of {len(x)} rows", f"{y.dtype} {list(y.shape)}")
            known = bool(((y >= 0) & (y < self.num_classes)).all())
            require(known, f"{part}_y", f"labels from 0 to {self.num_classes - 1}", y.unique().tolist())
            finite = not x.is_floating_point() or bool(x.isfinite().all())
            require(finite, f"{part}_x", "finite numbers", "others")
        groups = self.groups
        if groups is not None:
            fit = groups.dtype == torch.int64 and groups.shape == self.train.y.shape
            expected = f"int64 groups of the {len(like)} training rows"
            require(fit, "groups", expected, f"{groups.dtype} {list(groups.shape)}")

    @property
    def shape(self) -> Shape:
        """The shape of an input."""
        return tuple(self.train.x.shape[1:])

    @property
    def largest_input(self) -> float:
        """White, for images; the largest number of the training set, for floats."""
        x = self.train.x
        return 255.0 if is_image(x) else float(x.max())


def is_image(x: Tensor) -> bool:
    """Whether inputs [N, ...] are grey levels from 0 to 255."""
    return x.dtype == torch.uint8


def as_input(x: Tensor, device: torch.device) -> Tensor:
    """Inputs [N, ...] on `device` as a model takes them: uint8 as float32 in [0, 1], floats as float32,
    other integers (tokens) as they are; [N, c, h, w] channels last (faster convolutions).
    """
    there = moved(x, device)
    if is_image(x):
        there = there.float() / 255.0
    elif there.is_floating_point():
        there = there.float()
    return there.contiguous(memory_format=torch.channels_last) if there.dim() == 4 else there


def moved(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on `device`; to a GPU by way of pinned memory, so that nobody waits for the transfer."""
    pinned = device.type == "cuda" and x.device.type == "cpu"
    return x.pin_memory().to(device, non_blocking=True) if pinned else x.to(device)
