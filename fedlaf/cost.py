"""What work costs: the numbers that clients report and the server adds up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from fedlaf.types import Numbers


@dataclass(frozen=True)
class Cost:
    """Counts of work; a pass is one row once through the classifier's network.

    `gradient_passes` go forward and backward, `forward_passes` forward only; `vae_passes` are
    rows of D numbers through a VAE, listed apart because they cost next to nothing;
    `labels_read` counts labels that clients handed to a loss; `server_passes` are rows through the
    network on the server, no client's work; `bytes_stored` is what the server had to keep.
    """

    gradient_passes: float = 0.0
    forward_passes: float = 0.0
    vae_passes: float = 0.0
    labels_read: float = 0.0
    client_seconds: float = 0.0
    bytes_down: float = 0.0
    bytes_up: float = 0.0
    messages: float = 0.0
    rounds: float = 0.0
    server_passes: float = 0.0
    bytes_stored: float = 0.0

    @property
    def passes(self) -> float:
        """All passes through the classifier's network, with and without gradient."""
        return self.gradient_passes + self.forward_passes

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{n: getattr(self, n) + getattr(other, n) for n in NAMES})

    def numbers(self) -> Numbers:
        """As named numbers, for the wire and for JSON."""
        return {name: float(getattr(self, name)) for name in NAMES}

    @classmethod
    def of(cls, numbers: Numbers) -> Cost:
        """The costs among a client's numbers."""
        return cls(**{name: numbers[name] for name in NAMES if name in numbers})


NAMES = tuple(f.name for f in fields(Cost))


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of `costs`."""
    return sum(costs, Cost())
