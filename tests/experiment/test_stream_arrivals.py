"""Arrivals: the same requests whatever the method does, and traces that can be read again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlaf.core.errors import InvalidValue
from fedlaf.core.request import Holdings
from fedlaf.core.stream import Arrival, Cancel, Event, Return
from fedlaf.experiment.stream.adaptive import Adaptive, WorstServed
from fedlaf.experiment.stream.arrivals import Arrivals, Mix, Moment
from fedlaf.experiment.stream.bursts import Bursts, Periodic
from fedlaf.experiment.stream.poisson import Poisson
from fedlaf.experiment.stream.trace import Trace, as_json, event_of, write


def holdings(clients: int = 12, rows: int = 20) -> Holdings:
    labels = tuple(np.arange(rows) % 5 for _ in range(clients))
    return Holdings(labels, tuple(np.zeros(rows, bool) for _ in labels), 5)


def all_events(arrivals: Arrivals, rounds: int = 30, clients: int = 12) -> tuple[Event, ...]:
    events: tuple[Event, ...] = ()
    for round_ in range(1, rounds + 1):
        events += tuple(arrivals.events(Moment(round_, rounds, holdings(clients), events)))
    return events


FULL = Mix(
    scopes={"client": 1, "rows": 1, "classes": 1}, leavers={"helps": 1, "offline": 1, "gone": 1},
    deadline=4, cancels=0.3, returns=0.5,
)  # fmt: skip


@given(st.integers(0, 1000), st.sampled_from([Poisson, Bursts, Periodic]))
def test_requests_are_a_function_of_the_seed_and_name_each_client_once(seed: int, kind: Any) -> None:
    events = all_events(kind(seed=seed, mix=FULL))
    assert events == all_events(kind(seed=seed, mix=FULL))
    asked = [event for event in events if isinstance(event, Arrival)]
    clients = [event.client for event in asked]
    assert len(set(clients)) == len(clients) <= 12 - FULL.stay
    assert len({event.id for event in asked}) == len(asked)
    by_id = {event.id: event for event in asked}
    for event in events:
        if isinstance(event, Cancel):
            assert event.issued == by_id[event.id].issued + 1
        if isinstance(event, Return):
            left = next(a for a in asked if a.client == event.client)
            assert (left.scope, event.issued) == ("client", left.issued + FULL.after)
    assert all(event.deadline == event.issued + 4 for event in asked)


def test_other_seeds_give_other_requests() -> None:
    assert len({all_events(Poisson(seed=seed)) for seed in range(5)}) == 5


def test_a_poisson_process_has_its_rate() -> None:
    """40 rounds at 0.5: 20 requests on average over seeds, and a variance of 20; 200 clients suffice."""
    counts = [len(all_events(Poisson(rate=0.5, first=1, seed=seed), 40, 200)) for seed in range(60)]
    assert abs(np.mean(counts) - 20) < 4 * np.sqrt(20 / 60)
    assert 8 < np.var(counts) < 40


def test_bursts_and_periods_come_when_they_are_due() -> None:
    assert [e.issued for e in all_events(Bursts(at=[3, 7], size=2))] == [3, 3, 7, 7]
    assert [e.issued for e in all_events(Periodic(every=4, first=2), 14)] == [2, 6, 10, 14]


@given(st.integers(0, 200))
def test_a_trace_file_gives_the_events_that_were_written(seed: int) -> None:
    events = all_events(Poisson(seed=seed, mix=FULL, rate=0.8))
    assert tuple(event_of(json.loads(json.dumps(as_json(event)))) for event in events) == events


def test_a_trace_is_read_round_by_round(tmp_path: Path) -> None:
    events = all_events(Poisson(seed=3, mix=FULL, rate=0.8))
    write(events, tmp_path / "trace.jsonl")
    assert all_events(Trace(str(tmp_path / "trace.jsonl"))) == events


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "file, line 2: expected a JSON object"),
        ("[]", "file, line 2.event: expected a JSON object"),
        ('{"id": "b"}', "file, line 2.issued: expected a value in each request"),
        ('{"id": "b", "issued": 1, "clients": [1]}', "file, line 2.clients: expected one of"),
        ('{"id": "b", "issued": 1, "client": 1, "scope": "some"}', "file, line 2.scope"),
        ('{"event": "leave", "id": "b", "issued": 1}', "file, line 2.event: expected request or cancel"),
        ('{"id": "a", "issued": 2, "client": 3}', "file: expected each id once"),
        ('{"event": "cancel", "id": "c", "issued": 2}', "file: expected cancelled requests that are there"),
        ('{"event": "return", "id": "d", "issued": 2}', "file, line 2"),
    ],
)
def test_a_line_that_is_no_event_is_named(line: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"id": "a", "issued": 1, "client": 0}\n' + line + "\n")
    with pytest.raises(InvalidValue) as error:
        Trace(str(path))
    assert str(error.value).startswith(expected)


def test_an_adaptive_stream_sees_the_published_model() -> None:
    seen = Moment(4, 10, holdings(3), accuracy=lambda client: [90.0, 40.0, 70.0][client])
    first = Adaptive(WorstServed(every=4)).events(seen)
    assert [event.client for event in first] == [1]
    (second,) = Adaptive(WorstServed(every=4)).events(replace(seen, round=8, asked=tuple(first)))
    assert isinstance(second, Arrival)
    assert (second.client, second.id) == (2, "r2")
    assert Adaptive(WorstServed(every=4)).events(replace(seen, round=5)) == []


def test_what_a_callable_chooses_must_be_requests_of_the_round() -> None:
    def late(now: Moment) -> Sequence[Event]:
        return [Arrival("a", now.round + 1, 0)]

    with pytest.raises(InvalidValue, match="issued in round 4"):
        Adaptive(late).events(Moment(4, 10, holdings()))
    with pytest.raises(InvalidValue, match="callable"):
        Adaptive(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [{"scopes": {"all": 1}}, {"leavers": {"helps": 0}}, {"cancels": 1.5}, {"share": 0}, {"stay": 0}],
    ids=str,
)
def test_a_mix_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        Mix(**wrong)
