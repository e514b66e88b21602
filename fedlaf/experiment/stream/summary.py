"""A run over a stream as its report has it."""

from __future__ import annotations

from fedlaf.core.request_record import RequestStatus
from fedlaf.core.stream import Return
from fedlaf.evaluation.stream_costs import Retraining
from fedlaf.evaluation.stream_times import passes_by_client
from fedlaf.experiment.stream.measured import MeasuredRun
from fedlaf.report.stream import Quality, StreamResult


def summary(run: MeasuredRun) -> StreamResult:
    """All that is reported of the stream of a run that has ended."""
    state = run.state
    done = [o.stage for o in state.outcomes if o.status is RequestStatus.COMPLETED]
    first = len(run.plan.federation)
    returns = [event for event in state.events if isinstance(event, Return)]
    consents = {first + place: event.consent for place, event in enumerate(returns)}
    return StreamResult(
        state.outcomes, state.batches, state.segments, run.plan.train.rounds, state.elapsed,
        tuple(run.prefixes), {name: tuple(seen) for name, seen in run.sightings.items()}, quality(run),
        {kind: passes_by_client(rounds) for kind, rounds in run.asked_rounds.items()}, tuple(run.left),
        tuple(done.count(batch.stage) for batch in state.batches), Retraining(tuple(run.rounds)),
        dict(state.identities), {k: consents[k] for k in state.identities},
    )  # fmt: skip


def quality(run: MeasuredRun) -> tuple[Quality, ...]:
    """Test accuracy of the published model by elapsed rounds: after rounds of training, where curves are
    drawn, and after each service.
    """
    began = {segment.stage: segment for segment in run.state.segments}
    found = []
    for point in run.curves:
        segment = began.get(point.stage)
        if segment is not None and segment.kind == "training":
            elapsed = segment.elapsed + point.round - segment.round
            found.append(Quality(elapsed, point.measures["accuracy_test"], point.stage))
    for batch in run.state.batches:
        if "test_after" in batch.measures:
            found.append(Quality(batch.completed, batch.measures["test_after"], batch.stage))
    return tuple(sorted(found, key=lambda point: point.elapsed))
