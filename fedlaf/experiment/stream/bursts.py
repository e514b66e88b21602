"""Requests in bursts and at regular times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from fedlaf.core.errors import require, require_count
from fedlaf.core.seeding import numpy_stream
from fedlaf.core.stream import Event
from fedlaf.experiment.stream.arrivals import Mix, Moment


@dataclass(frozen=True)
class Bursts:
    """`size` requests after each of the rounds `at`."""

    at: Sequence[int] = (6, 12)
    size: int = 3
    seed: int = 0
    mix: Mix = field(default_factory=Mix)

    sees_model: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(len(self.at) > 0, "at", "at least one round", list(self.at))
        for round_ in self.at:
            require_count("at", round_)
        require_count("size", self.size)
        require_count("seed", self.seed, at_least=0)

    def __hash__(self) -> int:
        return hash((tuple(self.at), self.size, self.seed))

    def events(self, now: Moment) -> Sequence[Event]:
        """A burst, where one is due."""
        stream = numpy_stream(self.seed, "stream", "burst", now.round)
        count = self.size if now.round in self.at else 0
        return [*self.mix.follow_ups(now, self.seed), *self.mix.drawn(now, count, stream)]


@dataclass(frozen=True)
class Periodic:
    """One request `every` so many rounds, from round `first` on."""

    every: int = 3
    first: int = 3
    seed: int = 0
    mix: Mix = field(default_factory=Mix)

    sees_model: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_count("every", self.every)
        require_count("first", self.first)
        require_count("seed", self.seed, at_least=0)

    def events(self, now: Moment) -> Sequence[Event]:
        """One request, where one is due."""
        stream = numpy_stream(self.seed, "stream", "periodic", now.round)
        due = now.round >= self.first and (now.round - self.first) % self.every == 0
        return [*self.mix.follow_ups(now, self.seed), *self.mix.drawn(now, int(due), stream)]
