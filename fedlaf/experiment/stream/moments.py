"""What arrivals are asked: the moments of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedlaf.core.stream import Event
from fedlaf.core.types import ClientId, Weights
from fedlaf.data.federation import Federation
from fedlaf.experiment.plan import Plan
from fedlaf.experiment.stream.arrivals import Arrivals, Moment
from fedlaf.experiment.stream.quality import accuracy_on, model_of
from fedlaf.experiment.stream.trace import Trace, read


def moment(plan: Plan, federation: Federation, round_: int, asked: Sequence[Event]) -> Moment:
    """A round, for arrivals that do not see the model."""
    return Moment(round_, plan.train.rounds, federation.holdings, tuple(asked))


def seen(now: Moment, plan: Plan, federation: Federation, weights: Weights) -> Moment:
    """The same moment with the published model."""

    def accuracy(client: ClientId) -> float:
        return accuracy_on(model_of(plan, weights), federation.client(client).rows)

    return replace(now, weights=weights, published=lambda: model_of(plan, weights), accuracy=accuracy)


def whole_trace(plan: Plan, arrivals: Arrivals) -> tuple[Event, ...]:
    """All events of a run; none of arrivals that see the model, which nobody can foresee."""
    events: tuple[Event, ...] = ()
    if arrivals.sees_model:
        return events
    if isinstance(arrivals, Trace):  # those of rounds past the last, too
        return read(Path(arrivals.file).absolute())
    for round_ in range(1, plan.train.rounds + 1):
        events += tuple(arrivals.events(moment(plan, plan.federation, round_, events)))
    return events
