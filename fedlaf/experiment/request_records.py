"""What the pipeline tells the ledger of a scheduled request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedlaf.core.request import ForgetRequest
from fedlaf.core.request_record import RequestRecord, RequestStatus
from fedlaf.core.types import ClientId, Weights
from fedlaf.core.weights import weights_digest
from fedlaf.method.contract import RoundRecord, StageResult
from fedlaf.report import RequestResult


def of_result(
    result: RequestResult, request: ForgetRequest, before: Weights, unlearned: StageResult, method: str
) -> RequestRecord:
    """The record of a request that was served, or that was stopped."""
    status = RequestStatus.STOPPED if result.stopped else RequestStatus.COMPLETED
    judged = result.models.get("unlearned")
    round_, stages = result.round, result.stages
    return RequestRecord(
        result.name, status, scope_of(request), request.rows, () if result.stopped else result.withdrawn,
        round_, round_, round_, method, stages["unlearned"], stages["original"],
        weights_digest(before), weights_digest(unlearned.weights), who_answered(unlearned.records),
        unlearned.cost, dict(judged.measures) if judged else {},
        result.verdict.line if result.verdict else "", str(unlearned.findings[-1]) if result.stopped else "",
    )  # fmt: skip


def of_failure(
    name: str, status: RequestStatus, arrives: int, request: ForgetRequest, *, before: Weights, stage: str,
    method: str, reason: str,
) -> RequestRecord:  # fmt: skip
    """The record of a request that failed or was refused: the weights are those from before it."""
    digest = weights_digest(before)
    return RequestRecord(
        name, status, scope_of(request), request.rows, (), arrives, arrives, method=method, stage=stage,
        stage_before=stage, weights_before=digest, weights_after=digest, reason=reason,
    )  # fmt: skip


def scope_of(request: ForgetRequest) -> str:
    """Whether clients leave whole, or only rows of theirs."""
    return "client" if set(request.clients) == request.withdrawn else "rows"


def who_answered(records: Sequence[RoundRecord]) -> Mapping[str, tuple[ClientId, ...]]:
    """The clients that answered at least once, by phase in order."""
    found: dict[str, set[ClientId]] = {}
    for record in records:
        found.setdefault(record.phase, set()).update(set(record.asked) - set(record.failed))
    return {phase: tuple(sorted(clients)) for phase, clients in found.items()}
