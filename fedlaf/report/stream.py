"""What a run over a stream reports: what became of each request, and what that says together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from fedlaf.core.stream import BatchOutcome, RequestOutcome, Segment
from fedlaf.evaluation.persistence import Sighting, resurfaced
from fedlaf.evaluation.stream_costs import COMPARED, Retraining, break_even, cumulative
from fedlaf.evaluation.stream_times import TIMES, backlog, counts, time_of, times
from fedlaf.report.page.html import plain


@dataclass(frozen=True)
class Prefix:
    """The model after the first `requests` requests that ended, held against the one that was retrained to
    the same round without their rows.

    `gap` is their mean distance and `unlearned`, `retrained` and `before` are test accuracies in percent;
    `fairness` has the differences over remaining clients, `by_client` accuracies of both models.
    """

    requests: int
    result: str
    round: int
    elapsed: int
    unlearned: float
    retrained: float
    gap: float
    before: float | None = None
    fairness: Mapping[str, float] = field(default_factory=dict)
    by_client: Mapping[int, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Quality:
    """Test accuracy in percent, on a few rows, of the model that is published after `elapsed` rounds."""

    elapsed: float
    accuracy: float
    stage: str


@dataclass(frozen=True)
class StreamResult:
    """A stream as it went: all requests, the stages of service, the rounds that each stage took, the model at
    each prefix, sightings of forgotten rows by request, and client passes asked of each client, in training
    and in services.

    `left` are the rows that remained after each batch, `ended` how many requests each ended; `retraining`
    says what retraining costs.
    """

    outcomes: tuple[RequestOutcome, ...]
    batches: tuple[BatchOutcome, ...]
    segments: tuple[Segment, ...]
    rounds: int
    elapsed: int
    prefixes: tuple[Prefix, ...] = ()
    sightings: Mapping[str, tuple[Sighting, ...]] = field(default_factory=dict)
    quality: tuple[Quality, ...] = ()
    passes: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    left: tuple[int, ...] = ()
    ended: tuple[int, ...] = ()
    retraining: Retraining = field(default_factory=lambda: Retraining(()), repr=False)
    identities: Mapping[int, int] = field(default_factory=dict)
    consents: Mapping[int, str] = field(default_factory=dict)

    @cached_property
    def times(self) -> dict[str, dict[str, float]]:
        """Median, 95th percentile and maximum of each of TIMES."""
        return times(self.outcomes, self.elapsed)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many requests ended in which way."""
        return counts(self.outcomes)

    @cached_property
    def costs(self) -> dict[str, dict[str, list[float]]]:
        """Cumulative costs after each batch, of the method and of three ways of retraining."""
        return cumulative(self.batches, self.left, self.ended, self.retraining, rounds=self.rounds)

    @cached_property
    def break_even(self) -> dict[str, dict[str, int | None]]:
        """By cost and way of retraining: from which request on the method has cost more; None for never."""
        ways = ("each", "window", "once")
        return {
            name: {way: break_even(self.costs[name], self.ended, way) for way in ways} for name in COMPARED
        }

    @cached_property
    def resurfaced(self) -> dict[str, float]:
        """By request: points by which its rows have come back at the end."""
        found = {name: resurfaced(seen) for name, seen in self.sightings.items()}
        return {name: points for name, points in found.items() if points is not None}

    def values(self) -> dict[str, Any]:
        """All of it as plain values."""
        found: dict[str, Any] = plain({
            "rounds": self.rounds, "elapsed": self.elapsed, "counts": self.counts, "times": self.times,
            "backlog": backlog(self.outcomes, self.elapsed),
            "requests": [outcome_values(o, self.elapsed) for o in self.outcomes],
            "batches": [asdict(batch) for batch in self.batches],
            "segments": [asdict(segment) for segment in self.segments],
            "prefixes": [asdict(prefix) for prefix in self.prefixes],
            "sightings": {name: [asdict(s) for s in seen] for name, seen in self.sightings.items()},
            "resurfaced": self.resurfaced, "costs": self.costs, "break_even": self.break_even,
            "quality": [asdict(point) for point in self.quality],
            "passes": self.passes,
            "identities": dict(self.identities), "consents": dict(self.consents),
        })  # fmt: skip
        return found


def outcome_values(outcome: RequestOutcome, end: int) -> dict[str, Any]:
    """One request as plain values, with its times."""
    known = {name: time_of(outcome, name, end) for name in TIMES}
    return {**asdict(outcome), **known, "missed_deadline": outcome.missed}
