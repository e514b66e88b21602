"""A plan with a stream, checked before anything runs."""

from __future__ import annotations

from dataclasses import replace

from fedlaf.client.registry import STEPS
from fedlaf.core.errors import InvalidValue, require, within
from fedlaf.core.stream import Arrival, Event, Return
from fedlaf.experiment.needs import check_model
from fedlaf.experiment.plan import Plan
from fedlaf.experiment.stream.identities import rows_of, with_identities
from fedlaf.experiment.stream.moments import whole_trace
from fedlaf.experiment.stream.service import Stream
from fedlaf.method.contract import ClientRegistry, Method, Need


def with_stream(plan: Plan, stream: object) -> Plan:
    """The plan, whose requests come as a stream; training keeps what the fallback needs too.

    Raises InvalidValue for what cannot be run, such as a request in a trace of a client that is not there.
    """
    if not isinstance(stream, Stream):
        raise InvalidValue("stream", "one of the group's options, or null", stream)
    require(not plan.schedule, "requests", "[] beside a stream", f"{len(plan.schedule)} requests")
    require(
        not plan.erase, "erase", "false beside a stream, whose models are measured at its end", plan.erase
    )
    require(
        plan.resurfacing_rounds == 0, "evaluation.resurfacing_rounds",
        "0 beside a stream, in which training goes on anyway", plan.resurfacing_rounds,
    )  # fmt: skip
    history = plan.history
    if stream.fallback is not None:
        with within("stream"):
            _check_fallback(plan, stream.fallback)
        history = history.joined(stream.fallback.history_spec)
    planned = replace(plan, stream=stream, history=history)
    with within("stream.arrivals"):
        _check_trace(planned, whole_trace(planned, stream.arrivals))
    return planned


def _check_fallback(plan: Plan, fallback: Method) -> None:
    expected = f"a method that does not need {Need.ONLINE}"
    name = type(fallback).__name__
    require(Need.ONLINE not in fallback.needs, "fallback", expected, name)
    shape, classes = plan.federation.dataset.shape, plan.federation.dataset.num_classes
    check_model(fallback, plan.spec.model.build(shape, classes, 0), name)
    lacking = Need.SERVER_ROWS in fallback.needs and len(plan.federation.on_server()) == 0
    require(not lacking, "fallback", f"server_rows of at least 1 for {name}", 0)
    for step in sorted(
        fallback.client_steps(ClientRegistry({}, plan.federation.sizes, trained=1)) - set(STEPS)
    ):
        raise InvalidValue("fallback", f"registered client steps (known: {', '.join(sorted(STEPS))})", step)


def _check_trace(plan: Plan, events: tuple[Event, ...]) -> None:
    """Raise InvalidValue for clients, classes and rows that are not there, and for rounds past the last."""
    known = len(plan.federation)
    identities: dict[int, int] = {}
    seen = 0
    for event in events:
        expected = f"a training round from 1 to {plan.train.rounds}"
        require(event.issued <= plan.train.rounds, "issued", expected, event.issued)
        if isinstance(event, Return):
            origin = identities.get(event.client, event.client)
            there = origin < known
            require(there, f"return {event.id!r}, client", f"client ids from 0 to {known - 1}", event.client)
            identities[known + seen] = origin
            seen += 1
        elif isinstance(event, Arrival):
            rows_of(event, with_identities(plan.federation, identities).holdings)
