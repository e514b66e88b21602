"""The rows that models are measured on: what a request forgets, what remains, and the test set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Indices
from fedlaf.data import LabelledRows, Rows
from fedlaf.data.federation import Federation

KINDS = ("retain", "forget", "test", "triggered")
"""The kinds of rows that are predicted; there may be no triggered ones."""

LABELLED = KINDS[:3]
"""Those of them that have labels."""


R = TypeVar("R", Rows, LabelledRows)


def spaced(rows: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` of `rows` positions, evenly spaced: of all clients, and the same for every model."""
    return np.arange(rows) if rows <= most else np.arange(most, dtype=np.int64) * rows // most


@dataclass(frozen=True)
class EvaluationSplits:
    """The rows that models are measured on; `triggered` are test rows with a trigger, whose labels are its
    target, or None; `removed` the classes of which no row remains. `owners` has the client of each remaining
    and each forgotten row, by kind.
    """

    retain: LabelledRows
    forget: LabelledRows
    test: LabelledRows
    triggered: LabelledRows | None = None
    removed: tuple[int, ...] = ()
    owners: Mapping[str, Indices] = field(default_factory=dict)

    def some(self, rows: int) -> EvaluationSplits:
        """At most `rows` of each kind, evenly spaced over all clients: enough for a curve."""

        def few(kind: R) -> R:
            return kind.at(torch.from_numpy(spaced(len(kind), rows)))

        triggered = None if self.triggered is None else few(self.triggered)
        owners = {kind: held[spaced(len(held), rows)] for kind, held in self.owners.items()}
        return replace(
            self,
            retain=few(self.retain),
            forget=few(self.forget),
            test=few(self.test),
            triggered=triggered,
            owners=owners,
        )


def splits_for(federation: Federation, request: ForgetRequest, removed: ForgetRequest) -> EvaluationSplits:
    """The rows of a request's measurement: what it forgets, what remains, and the test set.

    Rows `removed` in earlier requests are in neither.
    """
    retain_parts, forget_parts = [], []
    owners: dict[str, list[int]] = {"retain": [], "forget": []}
    for k in range(len(federation)):
        data = federation.client(k)
        asked = request.of(k)
        if asked:
            forget_parts.append(data.rows.at(torch.tensor(asked)))
        kept = data.labelled(sorted({*asked, *removed.of(k)}))
        if len(kept):
            retain_parts.append(kept)
        owners["forget"] += [k] * len(asked)
        owners["retain"] += [k] * len(kept)
    test = federation.dataset.test
    marked = [(t.applied(test.x[test.y != t.target]), t.target) for t in federation.triggers]
    triggered = [LabelledRows(x, test.y.new_full((len(x),), target)) for x, target in marked]
    retain, forget = _joined(retain_parts), _joined(forget_parts)
    return EvaluationSplits(
        retain, forget, test, _joined(triggered) if triggered else None, removed_classes(retain, forget),
        {kind: np.array(held, np.int64) for kind, held in owners.items()},
    )  # fmt: skip


def removed_classes(retain: LabelledRows, forget: LabelledRows) -> tuple[int, ...]:
    """The classes of forgotten rows of which no row remains, in their order."""
    return tuple(np.setdiff1d(forget.y.numpy(), retain.y.numpy()).tolist())


def _joined(parts: list[LabelledRows]) -> LabelledRows:
    if not parts:
        raise ValueError("a measurement needs at least one row of each kind")
    return LabelledRows(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]))
