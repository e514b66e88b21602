"""What the ledger is told of a request that has ended."""

from __future__ import annotations

from fedlaf.core.cost import Cost
from fedlaf.core.request import ForgetRequest
from fedlaf.core.request_record import RequestRecord
from fedlaf.core.stream import BatchOutcome, RequestOutcome


def record_of(
    outcome: RequestOutcome, batch: BatchOutcome | None, rows: ForgetRequest, digests: tuple[str, str],
    before: str,
) -> RequestRecord:  # fmt: skip
    """The record of a request: `rows` are those that it meant, `digests` those of the weights before and
    after its batch (of the published model, where it was not served), `before` the stage of the weights
    before.
    """
    asked = outcome.request
    details = {
        "cause": asked.cause, "deadline": asked.deadline, "leaver": asked.leaver,
        "elapsed": {"issued": outcome.issued, "started": outcome.started, "ended": outcome.completed},
        "fallback": outcome.fallback, "together": list(outcome.together),
    }  # fmt: skip
    return RequestRecord(
        asked.id, outcome.status, asked.scope, dict(rows.rows), tuple(sorted(rows.withdrawn)),
        outcome.issued_round, outcome.started_round, outcome.completed_round, outcome.method, outcome.stage,
        before, *digests, outcome.phases, Cost.of(dict(outcome.cost)), dict(batch.measures) if batch else {},
        "", outcome.reason, details,
    )  # fmt: skip
