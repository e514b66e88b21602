"""How requests are served: when a window closes, who is asked, and what happens where a method cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fedlaf.core.errors import require_count, require_one_of
from fedlaf.experiment.stream.arrivals import Arrivals

PAUSE, GOES_ON = "pause", "goes_on"


@dataclass(frozen=True)
class Window:
    """Closes at `requests`, at `rows`, after the `longest_wait` of a request in it, or before the earliest
    deadline would be missed, whichever comes first; None is no limit. No batch is larger than both limits.
    """

    requests: int | None = None
    rows: int | None = None
    longest_wait: int = 0
    before_deadline: bool = True

    def __post_init__(self) -> None:
        for key in ("requests", "rows"):
            if getattr(self, key) is not None:
                require_count(key, getattr(self, key))
        require_count("longest_wait", self.longest_wait, at_least=0)


@dataclass(frozen=True)
class Service:
    """`training` pauses or goes on while a batch is served; `until_served`, a leaver's rows rest or are
    trained on.
    """

    window: Window = field(default_factory=Window)
    training: str = PAUSE
    until_served: str = "rest"

    def __post_init__(self) -> None:
        require_one_of("training", self.training, (PAUSE, GOES_ON))
        require_one_of("until_served", self.until_served, ("rest", "train"))


@dataclass(frozen=True)
class Stream:
    """Arrivals, service, and the method that serves what the run's own refuses (None: nothing does).

    After each request whose number is in `prefixes`, and at the end, the model is held against one that is
    retrained without all rows asked to be forgotten so far.
    """

    arrivals: Arrivals
    service: Service = field(default_factory=Service)
    fallback: Any = None
    prefixes: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128)

    def __post_init__(self) -> None:
        for number in self.prefixes:
            require_count("prefixes", number)

    @property
    def goes_on(self) -> bool:
        """Whether training goes on while a batch is served."""
        return self.service.training == GOES_ON
