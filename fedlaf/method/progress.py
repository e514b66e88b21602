"""Where a stage stands between two of its rounds: all that its next rounds depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fedlaf.core.cost import Cost
from fedlaf.core.types import ClientId, Weights
from fedlaf.method.contract import Finding, RoundRecord


@dataclass(frozen=True)
class StageProgress:
    """A stage after `done` of its rounds, over all phases.

    `round` is the round within the phase, `aux` what the method carries along; `cost`, `records` and
    `findings` are those so far; `rows_read` are the rows of each client that the account has counted
    (retained, forgotten); `trained_rows` is what the history has noted of each client.
    """

    done: int
    weights: Weights
    round: int
    aux: Mapping[str, Any]
    cost: Cost
    records: tuple[RoundRecord, ...]
    findings: tuple[Finding, ...] = ()
    rows_read: Mapping[ClientId, tuple[float, float]] = field(default_factory=dict)
    trained_rows: Mapping[ClientId, int] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """As groups of plain values and arrays, which `of` puts together again."""
        account = {
            "done": self.done,
            "round": self.round,
            "cost": self.cost.numbers(),
            "records": [record_values(record) for record in self.records],
            "findings": [asdict(finding) for finding in self.findings],
            "rows_read": dict(self.rows_read),
            "trained_rows": dict(self.trained_rows),
        }
        return {"account": account, "weights": self.weights, "aux": dict(self.aux)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> StageProgress:
        """The progress that gave these values. Raises KeyError or TypeError for others."""
        account = dict(values["account"])
        account["cost"] = Cost.of(account["cost"])
        account["records"] = tuple(record_of(record) for record in account["records"])
        account["findings"] = tuple(Finding(**finding) for finding in account["findings"])
        return cls(weights=values["weights"], aux=values["aux"], **account)


def record_values(record: RoundRecord) -> dict[str, Any]:
    """A round's record as plain values."""
    return asdict(record)


def record_of(values: Mapping[str, Any]) -> RoundRecord:
    """The record of a round from its plain values, whose keys may have become text."""
    found: dict[str, Any] = {
        name: tuple(held) if isinstance(held, list) else held for name, held in values.items()
    }
    found["cost"] = Cost.of(found["cost"])
    found["failed"] = {int(client): why for client, why in found["failed"].items()}
    return RoundRecord(**found)
