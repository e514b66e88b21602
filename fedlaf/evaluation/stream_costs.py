"""What a stream's services cost together, beside three ways of retraining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from fedlaf.core.cost import Cost
from fedlaf.core.stream import BatchOutcome

COMPARED = {"passes": "client passes", "bytes": "bytes down and up", "client_seconds": "client seconds"}
"""Costs that are held against retraining's."""


@dataclass(frozen=True)
class TrainingRound:
    """One round of training: its cost, the rows that were there to be trained on, and whether all clients
    that had some were asked.
    """

    cost: Cost
    rows: int
    all_asked: bool


@dataclass(frozen=True)
class Retraining:
    """What retraining costs, as this run's own rounds of training have it.

    A retraining of t rounds costs what the first t rounds did, each scaled to the rows that remain where all
    clients were asked. Passes are then exact; bytes and seconds are estimates.
    """

    rounds: Sequence[TrainingRound]

    def cost(self, name: str, until: int, rows: int) -> float:
        """One of COMPARED of a retraining for `until` rounds on `rows` rows."""
        found = 0.0
        for one in self.rounds[:until]:
            share = rows / one.rows if one.all_asked and one.rows else 1.0
            found += share * amount(one.cost, name)
        return found


def amount(cost: Cost, name: str) -> float:
    """One of COMPARED."""
    if name == "bytes":
        return cost.bytes_down + cost.bytes_up
    return float(getattr(cost, name))


def cumulative(
    batches: Sequence[BatchOutcome], left: Sequence[int], asked: Sequence[int], retraining: Retraining,
    *, rounds: int,
) -> dict[str, dict[str, list[float]]]:  # fmt: skip
    """For each of COMPARED, after each batch: what services have cost so far (`method`), retraining after
    each request (`each`), after each batch (`window`), and once, after the last training round (`once`).

    `left` are the rows that remain after each batch, `asked` how many requests it ended.
    """
    found = {}
    for name in COMPARED:
        own = list(accumulate(amount(Cost.of(dict(batch.cost)), name) for batch in batches))
        alone = [retraining.cost(name, b.round, rows) for b, rows in zip(batches, left, strict=True)]
        each = list(accumulate(cost * max(n, 0) for cost, n in zip(alone, asked, strict=True)))
        window = list(accumulate(cost * (n > 0) for cost, n in zip(alone, asked, strict=True)))
        once = retraining.cost(name, rounds, left[-1]) if left else 0.0
        found[name] = {"method": own, "each": each, "window": window, "once": [once] * len(own)}
    return found


def break_even(costs: Mapping[str, Sequence[float]], asked: Sequence[int], other: str) -> int | None:
    """The number of the request from which on the method has cost more than retraining of the kind `other`;
    None where it stays cheaper.
    """
    number = 0
    found: int | None = None
    for own, theirs, n in zip(costs["method"], costs[other], asked, strict=True):
        found = (found or number + 1) if own > theirs else None
        number += n
    return found
