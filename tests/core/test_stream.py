"""Requests of a stream as values."""

from __future__ import annotations

from typing import Any

import pytest

from fedlaf.core.errors import InvalidValue
from fedlaf.core.request_record import RequestStatus
from fedlaf.core.stream import Arrival, Cancel, RequestOutcome, Return


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"id": " "}, "id"),
        ({"issued": 0}, "issued"),
        ({"scope": "all"}, "scope"),
        ({"leaver": "sulks"}, "leaver"),
        ({"scope": "classes"}, "classes"),
        ({"classes": (1,)}, "classes"),
        ({"scope": "rows"}, "rows"),
        ({"client": None}, "client"),
        ({"deadline": 2}, "deadline"),
        ({"leaver": "offline"}, "offline"),
        ({"offline": (3, 5)}, "offline"),
        ({"leaver": "offline", "offline": (5, 5)}, "offline"),
    ],
    ids=str,
)
def test_a_request_that_means_nothing_is_refused(wrong: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidValue) as error:
        Arrival(**{"id": "a", "issued": 3, "client": 1, **wrong})
    assert error.value.key == key


def test_a_return_needs_consent_and_a_cancellation_a_round() -> None:
    with pytest.raises(InvalidValue, match="consent"):
        Return("b", 4, 1, "  ")
    with pytest.raises(InvalidValue, match="issued"):
        Cancel("a", 0)


def test_an_offline_leaver_is_reached_outside_of_its_rounds() -> None:
    request = Arrival("a", 3, 1, leaver="offline", offline=(4, 6))
    assert [request.reachable(t) for t in range(3, 8)] == [True, False, False, True, True]
    assert not Arrival("a", 3, 1, leaver="gone").reachable(9)
    assert not Arrival("a", 3, 1, leaver="refuses").reachable(9)


def outcome(
    status: RequestStatus, completed: int, *, deadline: int | None = None, **more: Any
) -> RequestOutcome:
    """Issued after 4 training rounds and 10 elapsed rounds."""
    request = Arrival("a", 4, 1, deadline=deadline)
    return RequestOutcome(request, status, 7, 10, 4, completed, 6, **more)


@pytest.mark.parametrize(
    ("found", "time", "exposure", "missed"),
    [
        (outcome(RequestStatus.COMPLETED, 13, started=11), 3, 3, False),
        (outcome(RequestStatus.COMPLETED, 13, started=11, deadline=7), 3, 3, False),
        (outcome(RequestStatus.COMPLETED, 13, started=11, deadline=6), 3, 3, True),
        (outcome(RequestStatus.COMPLETED, 13, started=11, held=False), 3, 0, False),
        (outcome(RequestStatus.COMPLETED, 10, started=10, forgotten=False), None, 20, False),
        (outcome(RequestStatus.REFUSED, 10), None, 20, False),
        (outcome(RequestStatus.REFUSED, 10, deadline=9), None, 20, True),
        (outcome(RequestStatus.CANCELLED, 12, deadline=5), None, 0, False),
    ],
    ids=str,
)
def test_times_of_a_request(found: RequestOutcome, time: int | None, exposure: int, missed: bool) -> None:
    """By the end, 30 rounds have elapsed; deadlines count elapsed rounds from the request on."""
    assert (found.time, found.exposure(30), found.missed) == (time, exposure, missed)
