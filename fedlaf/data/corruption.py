"""What is wrong with some clients' rows: planted backdoors and wrong labels, as configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlaf.core.errors import require, require_count, require_number, require_one_of
from fedlaf.core.types import ClientId, Shape

PLACES = ("lower_right", "lower_left", "upper_right", "upper_left")
"""Corners of an image; of a series only left (its start) and right (its end) matter."""


@dataclass(frozen=True)
class Trigger:
    """A white square of `patch` pixels a side, one pixel from the corner `place` (Gu et al. 2017).

    In a series [c, L]: `patch` steps at the level `white`, one step from its end or its start.
    """

    patch: int
    target: int
    white: float = 255.0
    place: str = "lower_right"

    def applied(self, x: Tensor) -> Tensor:
        """A copy of inputs [N, c, h, w] or [N, c, L] with the patch in each row."""
        marked = x.clone()
        first, last = slice(1, self.patch + 1), slice(-self.patch - 1, -1)
        down = last if self.place.startswith("lower") else first
        along = last if self.place.endswith("right") else first
        where = (..., down, along) if x.dim() == 4 else (..., along)
        marked[where] = self.white
        return marked


@dataclass(frozen=True)
class Backdoor:
    """A `share` of the rows of each of `clients` carries the trigger, a square of `patch` pixels in the
    corner `place`, and the label `target`.
    """

    clients: Sequence[ClientId] = (0,)
    share: float = 0.5
    patch: int = 5
    target: int = 9
    place: str = "lower_right"

    def __post_init__(self) -> None:
        require_one_of("place", self.place, PLACES)
        object.__setattr__(self, "clients", tuple(self.clients))
        _require_once("clients", self.clients)
        require_number("share", self.share, above=0, at_most=1)
        require_count("patch", self.patch)
        require_count("target", self.target, at_least=0)

    def trigger(self, shape: Shape, num_classes: int, *, white: float = 255.0) -> Trigger:
        """The trigger, checked against the set's inputs, images or series whose largest number is `white`.

        Raises InvalidValue when it does not fit.
        """
        side = min(shape[1:])
        unit = "pixels of an image" if len(shape) == 3 else "steps of a series"
        require(self.patch < side, "patch", f"fewer than the {side} {unit}", self.patch)
        require(self.target < num_classes, "target", f"a class below {num_classes}", self.target)
        return Trigger(self.patch, self.target, white, self.place)

    def planted(
        self, rows: int, stream: np.random.Generator, *, taken: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.bool_]:
        """Which of a client's rows carry the trigger, bool [P]: exactly round(share * P) of them, none that
        another trigger has `taken`. Raises InvalidValue where so many are not left.
        """
        free = np.arange(rows) if taken is None else np.flatnonzero(~taken)
        wanted = round(self.share * rows)
        expected = f"at most the {len(free)} of a client's {rows} rows that carry no other trigger"
        require(wanted <= len(free), "share", expected, self.share)
        marks = np.zeros(rows, bool)
        marks[free[stream.choice(len(free), wanted, replace=False)]] = True
        return marks


@dataclass(frozen=True)
class Backdoors:
    """Several backdoors, each with a place or a label of its own; a client may have more than one of them, in
    different rows.
    """

    each: Sequence[Backdoor]

    def __post_init__(self) -> None:
        object.__setattr__(self, "each", tuple(self.each))
        for number, one in enumerate(self.each):
            require(isinstance(one, Backdoor), f"each.{number}", "a Backdoor", one)
        places = [one.place for one in self.each]
        expected = "at least one backdoor, each in a place of its own"
        require(len(set(places)) == len(places) > 0, "each", expected, places)


@dataclass(frozen=True)
class WrongLabels:
    """A `share` of the rows of each of `clients` (None: all) gets a wrong label, any but the right one.

    `classes` limits it to rows whose right label is one of them.
    """

    clients: Sequence[ClientId] | None = (0,)
    share: float = 0.6
    classes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name in ("clients", "classes"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        _require_once("clients", self.clients or ())
        _require_once("classes", self.classes or ())
        require_number("share", self.share, above=0, at_most=1)

    def corrupted(
        self, labels: npt.NDArray[np.int64], num_classes: int, stream: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Labels [P] with the chosen ones replaced, uniformly over the C - 1 wrong classes."""
        unknown = [label for label in self.classes or () if not 0 <= label < num_classes]
        require(not unknown, "classes", f"classes from 0 to {num_classes - 1}", next(iter(unknown), None))
        eligible = np.flatnonzero(
            np.ones(len(labels), bool) if self.classes is None else np.isin(labels, list(self.classes))
        )
        chosen = eligible[_chosen(len(eligible), self.share, stream)]
        changed = labels.copy()
        # An offset of 1 to C - 1, modulo C, reaches every wrong label and never the right one.
        offsets = stream.integers(1, num_classes, size=len(chosen))
        changed[chosen] = (labels[chosen] + offsets) % num_classes
        return changed


def _require_once(key: str, values: Sequence[int]) -> None:
    strange = [value for value in values if not isinstance(value, int) or isinstance(value, bool)]
    require(not strange, key, "whole numbers", next(iter(strange), None))
    require(len(set(values)) == len(values), key, "each once", list(values))


def _chosen(count: int, share: float, stream: np.random.Generator) -> npt.NDArray[np.bool_]:
    marks = np.zeros(count, bool)
    marks[stream.choice(count, round(share * count), replace=False)] = True
    return marks


def plant(x: Tensor, planted: npt.NDArray[np.bool_], trigger: Trigger) -> Tensor:
    """A copy of inputs [P, ...] in which the `planted` rows carry the trigger."""
    where = torch.from_numpy(planted)
    marked = x.clone()
    marked[where] = trigger.applied(x[where])
    return marked
