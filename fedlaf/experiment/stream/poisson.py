"""Requests at random: a Poisson process over training rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from fedlaf.core.errors import require_count, require_number
from fedlaf.core.seeding import numpy_stream
from fedlaf.core.stream import Event
from fedlaf.experiment.stream.arrivals import Mix, Moment


@dataclass(frozen=True)
class Poisson:
    """`rate` requests a round on average, from round `first` on."""

    rate: float = 0.4
    first: int = 2
    seed: int = 0
    mix: Mix = field(default_factory=Mix)

    sees_model: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_number("rate", self.rate, above=0)
        require_count("first", self.first)
        require_count("seed", self.seed, at_least=0)

    def events(self, now: Moment) -> Sequence[Event]:
        """As many as the Poisson law of the rate draws for the round."""
        stream = numpy_stream(self.seed, "stream", "poisson", now.round)
        count = int(stream.poisson(self.rate)) if now.round >= self.first else 0
        return [*self.mix.follow_ups(now, self.seed), *self.mix.drawn(now, count, stream)]
