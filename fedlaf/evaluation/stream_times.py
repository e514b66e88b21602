"""How long requests of a stream wait and are exposed, and what becomes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from fedlaf.core.request_record import RequestStatus
from fedlaf.core.stream import RequestOutcome

Spread = dict[str, float]
"""Median, 95th percentile and maximum."""

TIMES = ("wait", "service", "time", "exposure", "check_seconds", "client_seconds", "bytes")
"""What is known of each request: elapsed rounds until its service, of its service, of both, and of exposure;
seconds in which its result was checked; client seconds and bytes of the stage that served it.
"""


def time_of(outcome: RequestOutcome, name: str, end: int) -> float | None:
    """One of TIMES of a request, as seen after `end` elapsed rounds; None where it has none."""
    if name == "exposure":
        return None if outcome.status is RequestStatus.CANCELLED else float(outcome.exposure(end))
    if outcome.time is None or outcome.wait is None:
        return None
    cost = outcome.cost
    found = {
        "wait": outcome.wait, "service": outcome.service, "time": outcome.time,
        "check_seconds": outcome.check_seconds, "client_seconds": cost.get("client_seconds", 0.0),
        "bytes": cost.get("bytes_down", 0.0) + cost.get("bytes_up", 0.0),
    }  # fmt: skip
    return float(found[name])


def times(outcomes: Sequence[RequestOutcome], end: int) -> dict[str, Spread]:
    """The spread of each of TIMES over the requests that have it: served ones, for exposure all but cancelled
    ones. Without any it is empty.
    """
    found = {}
    for name in TIMES:
        known = [value for o in outcomes if (value := time_of(o, name, end)) is not None]
        found[name] = spread_of(known)
    return found


def spread_of(values: Sequence[float]) -> Spread:
    """Median, 95th percentile (linear between values) and maximum; empty for none.

    >>> spread_of([1.0, 2.0, 9.0])["median"]
    2.0
    """
    if not values:
        return {}
    return {
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "max": float(max(values)),
    }


def backlog(outcomes: Sequence[RequestOutcome], end: int) -> list[int]:
    """How many requests wait or are being served after each of 0 to `end` elapsed rounds."""
    waiting = [0] * (end + 1)
    for outcome in outcomes:
        for elapsed in range(outcome.issued, min(outcome.completed, end + 1)):
            waiting[elapsed] += 1
    return waiting


def counts(outcomes: Sequence[RequestOutcome]) -> dict[str, int]:
    """How many requests were issued, how many ended in each way, missed their deadline, were served by the
    fallback, and were served together with another.
    """
    by_status = Counter(outcome.status for outcome in outcomes)
    return {
        "issued": len(outcomes),
        **{str(status): by_status[status] for status in RequestStatus},
        "not_forgotten": sum(o.status is RequestStatus.COMPLETED and not o.forgotten for o in outcomes),
        "missed_deadline": sum(outcome.missed for outcome in outcomes),
        "by_fallback": sum(outcome.fallback and outcome.time is not None for outcome in outcomes),
        "served_together": sum(bool(outcome.together) for outcome in outcomes),
    }


def passes_by_client(rounds: Sequence[tuple[Sequence[int], Sequence[float]]]) -> Mapping[int, float]:
    """Client passes of each client, from the clients that each round asked and the passes of each of them."""
    total: Counter[int] = Counter()
    for asked, passes in rounds:
        for client, spent in zip(asked, passes, strict=False):
            total[client] += spent  # type: ignore[assignment]
    return {client: float(spent) for client, spent in sorted(total.items())}
