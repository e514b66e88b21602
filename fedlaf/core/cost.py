"""What work costs: the numbers that clients report and the server adds up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from fedlaf.core.types import Numbers


@dataclass(frozen=True)
class Cost:
    """Counts of work; a pass is one row once through the classifier's network.

    `gradient_passes` go forward and backward, `forward_passes` forward only; `vae_passes` are
    rows of D numbers through a VAE, listed apart because they cost next to nothing;
    `labels_read` counts labels that clients read, each time that they read them; `server_passes` are rows
    through the network on the server, no work of a client. Of the rows that were read, `retain_rows_read` and
    `forget_rows_read` count each once in a stage, however often it was used. `bytes_stored` is what the
    server had to keep. Peaks of memory, in bytes (`client_memory` of the largest client process,
    `gpu_memory` of its share of a GPU, `driver_memory`), are not added up: of two, the higher stays.
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
    retain_rows_read: float = 0.0
    forget_rows_read: float = 0.0
    client_memory: float = 0.0
    gpu_memory: float = 0.0
    driver_memory: float = 0.0

    @property
    def passes(self) -> float:
        """All passes through the classifier's network, with and without gradient."""
        return self.gradient_passes + self.forward_passes

    @property
    def rows_read(self) -> float:
        """Different rows that clients looked at."""
        return self.retain_rows_read + self.forget_rows_read

    def __add__(self, other: Cost) -> Cost:
        pairs = {n: (getattr(self, n), getattr(other, n)) for n in NAMES}
        return Cost(**{n: max(pair) if n in PEAKS else sum(pair) for n, pair in pairs.items()})

    def numbers(self) -> Numbers:
        """As named numbers, for the wire and for JSON."""
        return {name: float(getattr(self, name)) for name in NAMES}

    @classmethod
    def of(cls, numbers: Numbers) -> Cost:
        """The costs among a client's numbers."""
        return cls(**{name: numbers[name] for name in NAMES if name in numbers})


NAMES = tuple(f.name for f in fields(Cost))
PEAKS = ("client_memory", "gpu_memory", "driver_memory")
"""Costs that are peaks, not counts."""


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of `costs`."""
    return sum(costs, Cost())
