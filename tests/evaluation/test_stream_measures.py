"""Times, costs, fairness and persistence over a stream, on cases that are worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlaf.core.cost import Cost
from fedlaf.core.request_record import RequestStatus
from fedlaf.core.stream import Arrival, BatchOutcome, RequestOutcome
from fedlaf.evaluation.fairness import accuracy_by_client, fairness
from fedlaf.evaluation.persistence import Sighting, resurfaced
from fedlaf.evaluation.stream_costs import Retraining, TrainingRound, break_even, cumulative
from fedlaf.evaluation.stream_times import backlog, counts, passes_by_client, spread_of, times


def served(name: str, issued: int, started: int, completed: int, **more: Any) -> RequestOutcome:
    status = more.pop("status", RequestStatus.COMPLETED)
    return RequestOutcome(
        Arrival(name, 1, 0), status, 5, issued, 1, completed, 2, started=started,
        service=completed - started, **more,
    )  # fmt: skip


THREE = [
    served("a", 2, 2, 5, cost={"bytes_down": 10.0, "bytes_up": 1.0, "client_seconds": 2.0}),
    served("b", 2, 5, 9, together=("c",)),
    served("c", 4, 4, 4, status=RequestStatus.CANCELLED),
]


def test_times_are_spread_over_the_requests_that_were_served() -> None:
    found = times(THREE, 12)
    assert found["wait"] == {"median": 1.5, "p95": pytest.approx(2.85), "max": 3.0}
    assert found["time"]["max"] == 7.0
    assert found["bytes"]["max"] == 11.0
    assert found["exposure"]["median"] == 5.0  # of 3 and 7; who took it back does not count
    assert times(THREE[2:], 12)["time"] == {}


def test_who_was_never_served_is_exposed_to_the_end() -> None:
    refused = served("a", 2, 2, 2, status=RequestStatus.REFUSED)
    assert times([refused], 12)["exposure"]["max"] == 10.0


def test_the_backlog_counts_who_waits_or_is_being_served() -> None:
    assert backlog(THREE, 9) == [0, 0, 2, 2, 2, 1, 1, 1, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), max_size=12))
def test_the_backlog_sums_to_all_rounds_of_waiting(drawn: list[tuple[int, int]]) -> None:
    outcomes = [served(f"r{i}", at, at, at + long) for i, (at, long) in enumerate(drawn)]
    assert sum(backlog(outcomes, 40)) == sum(long for _, long in drawn)


def test_every_request_is_counted_by_its_end() -> None:
    found = counts(THREE)
    assert (found["issued"], found["completed"], found["cancelled"]) == (3, 2, 1)
    assert (found["served_together"], found["not_forgotten"]) == (1, 0)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_a_spread_is_in_order(values: list[float]) -> None:
    found = spread_of(values)
    assert found["median"] <= found["p95"] + 1e-9
    assert found["p95"] <= found["max"] + 1e-9
    assert found["max"] == max(values)


def round_of(passes: float, rows: int, *, all_asked: bool = True) -> TrainingRound:
    return TrainingRound(Cost(forward_passes=passes, bytes_up=2 * passes), rows, all_asked)


def test_retraining_costs_what_training_did_on_the_rows_that_remain() -> None:
    retraining = Retraining([round_of(100, 100), round_of(80, 80), round_of(80, 80)])
    assert isclose(retraining.cost("passes", 2, 60), 120)  # one epoch on 60 rows, twice
    assert isclose(retraining.cost("bytes", 3, 60), 360)
    cohort = Retraining([round_of(30, 100, all_asked=False)] * 4)
    assert cohort.cost("passes", 4, 50) == 120  # a cohort is as large as before


def batch_of(passes: float, round_: int) -> BatchOutcome:
    return BatchOutcome(
        "s", "m", False, RequestStatus.COMPLETED, ("a",), 5, round_, 0, 1, round_,
        {"forward_passes": passes},
    )  # fmt: skip


def test_costs_add_up_beside_three_ways_of_retraining() -> None:
    retraining = Retraining([round_of(100, 100)] * 4)
    found = cumulative(
        [batch_of(50, 1), batch_of(50, 2), batch_of(300, 4)], [90, 80, 60], [1, 2, 1], retraining, rounds=4
    )["passes"]
    assert found["method"] == [50, 100, 400]
    assert np.allclose(found["window"], [90, 250, 490])
    assert np.allclose(found["each"], [90, 410, 650])
    assert np.allclose(found["once"], [240] * 3)
    assert break_even(found, [1, 2, 1], "once") == 4  # the fourth request is the one that makes it dearer
    assert break_even(found, [1, 2, 1], "each") is None


def test_fairness_holds_each_client_against_the_retrained_model() -> None:
    probabilities = np.eye(2)[[0, 0, 1, 1]].astype(float)
    found = accuracy_by_client(probabilities, np.array([0, 1, 1, 1]), np.array([3, 3, 7, 7]))
    assert found == {3: 50.0, 7: 100.0}
    assert fairness(found, {3: 60.0, 7: 100.0}) == {"worst": -10.0, "deviation": 5.0, "below": 50.0}
    assert fairness({}, {}) == {}


@pytest.mark.parametrize(
    ("seen", "points"),
    [
        ([(50, None)], None),
        ([(50, 50), (70, 70)], 0.0),  # the retrained model generalises to them too
        ([(50, 50), (70, 60)], 10.0),
        ([(65, 50), (70, 60)], 5.0),
        ([(65, 50), (55, 60)], 0.0),
        ([(65, 50), (70, None)], None),
    ],
)
def test_rows_have_resurfaced_only_above_both(
    seen: Sequence[tuple[float, float | None]], points: float | None
) -> None:
    sightings = [Sighting(i, i, ours, theirs) for i, (ours, theirs) in enumerate(seen)]
    assert resurfaced(sightings) == points


def test_passes_are_added_by_client() -> None:
    assert passes_by_client([((0, 2), (5.0, 1.0)), ((2,), (4.0,))]) == {0: 5.0, 2: 5.0}
