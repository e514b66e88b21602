"""Whether what was forgotten stays forgotten through later training and later requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sighting:
    """Accuracy in percent on the rows of one request at a later time: of the run's model, and of the model
    retrained to the same round where there is one. `round` and `elapsed` say when.
    """

    round: int
    elapsed: int
    unlearned: float
    retrained: float | None = None


def resurfaced(sightings: Sequence[Sighting]) -> float | None:
    """Points by which the accuracy on forgotten rows lies, at the last sighting, above both the first one
    (just after the service) and the retrained model's; 0 where it does not. None without a retrained model at
    last.

    Rows that later training makes the model generalise to are right in the retrained model too.

    >>> resurfaced([Sighting(4, 5, 50.0), Sighting(9, 10, 58.0, 53.0)])
    5.0
    """
    if len(sightings) < 2:
        return None
    first, last = sightings[0], sightings[-1]
    if last.retrained is None:
        return None
    return max(0.0, last.unlearned - max(first.unlearned, last.retrained))
