"""Requests chosen by somebody who sees the published model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fedlaf.core.errors import InvalidValue, require, require_count
from fedlaf.core.stream import Arrival, Cancel, Event, Return
from fedlaf.core.types import ClientId
from fedlaf.experiment.stream.arrivals import Moment


@dataclass(frozen=True)
class Adaptive:
    """What `choose` asks for: a callable that takes the Moment, with the published model, and gives events.

    It is called after each round from `first` on.
    """

    choose: Callable[[Moment], Sequence[Event]]
    first: int = 1

    sees_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        does: Any = self.choose
        require(callable(does), "choose", "a callable of the Moment that gives requests", does)
        require_count("first", self.first)

    def events(self, now: Moment) -> Sequence[Event]:
        """The events chosen. Raises InvalidValue for anything that is none, or is of another round."""
        if now.round < self.first:
            return []
        chosen = list(self.choose(now))
        for event in chosen:
            known = isinstance(event, (Arrival, Cancel, Return))
            if not known or event.issued != now.round:
                raise InvalidValue("choose", f"requests that are issued in round {now.round}", event)
        return chosen


@dataclass(frozen=True)
class WorstServed:
    """Asks for the withdrawal of the client whose rows the published model gets wrong most often.

    Every `every` rounds, of at most `most` clients: those whom a model serves worst leave first.
    """

    every: int = 4
    most: int = 3

    def __post_init__(self) -> None:
        require_count("every", self.every)
        require_count("most", self.most)

    def __call__(self, now: Moment) -> Sequence[Event]:
        """One request, where one is due."""
        number = 1 + sum(isinstance(event, Arrival) for event in now.asked)
        if now.round % self.every or number > self.most or now.accuracy is None:
            return []
        accuracy = {client: now.accuracy(client) for client in now.unasked}
        worst: ClientId = min(accuracy, key=lambda client: (accuracy[client], client))
        return [Arrival(f"r{number}", now.round, worst, cause="badly served")]
