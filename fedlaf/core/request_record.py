"""What became of one request: the value that whoever serves requests hands to the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fedlaf.core.cost import Cost
from fedlaf.core.types import ClientId


class RequestStatus(StrEnum):
    """How a request ended."""

    COMPLETED = "completed"
    """Served: the weights after it are those that go on."""
    STOPPED = "stopped"
    """Its result could not be right; the weights are those from before it."""
    FAILED = "failed"
    """Clients failed, or the server did."""
    REFUSED = "refused"
    """It could not be served: such as a method that needs clients that are gone."""
    CANCELLED = "cancelled"
    """Taken back before it was served."""


@dataclass(frozen=True)
class RequestRecord:
    """One request and its end, in terms of clients' ids; the ledger writes salted names in their place.

    `id` is unique within a run; several requests that were served together name the same `stage`, the saved
    stage that holds the weights after. Rounds are training rounds; None is not yet, or never. `rows` are the
    positions to forget by client. `phases` says who answered in which phase, in the order of the phases.
    `weights_before` and `weights_after` are `weights_digest` of the model. `details` holds what else is
    known, in values that JSON knows, and no client's id.
    """

    id: str
    status: RequestStatus
    scope: str
    rows: Mapping[ClientId, tuple[int, ...]]
    withdrawn: tuple[ClientId, ...] = ()
    issued: int | None = None
    started: int | None = None
    ended: int | None = None
    method: str = ""
    stage: str = ""
    stage_before: str = ""
    weights_before: str = ""
    weights_after: str = ""
    phases: Mapping[str, tuple[ClientId, ...]] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    measures: Mapping[str, float] = field(default_factory=dict)
    verdict: str = ""
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
