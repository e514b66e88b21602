"""The rows that models are measured on: what a request forgets, what remains, and the test set."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from fedlaf.core.request import ForgetRequest
from fedlaf.data import LabelledRows, Rows
from fedlaf.data.federation import Federation

KINDS = ("retained", "forgotten", "test", "triggered")
"""The kinds of rows that are predicted; there may be no triggered ones."""

LABELLED = KINDS[:3]
"""Those of them that have labels."""


@dataclass(frozen=True)
class Subjects:
    """The rows that models are measured on; `triggered` are test rows with the trigger, or None,
    `removed` the classes of which no row remains.
    """

    retained: LabelledRows
    forgotten: LabelledRows
    test: LabelledRows
    triggered: Rows | None = None
    target: int = -1
    removed: tuple[int, ...] = ()

    def some(self, rows: int) -> Subjects:
        """At most the first `rows` of each kind: enough for a curve."""
        few = torch.arange(rows)
        triggered = self.triggered and self.triggered.at(few[: len(self.triggered)])
        kinds = [r.at(few[: len(r)]) for r in (self.retained, self.forgotten, self.test)]
        return replace(self, retained=kinds[0], forgotten=kinds[1], test=kinds[2], triggered=triggered)


def subjects_of(federation: Federation, request: ForgetRequest, gone: ForgetRequest) -> Subjects:
    """The rows of a request's measurement: what it forgets, what remains, and the test set.

    Rows `gone` in earlier requests are in neither.
    """
    retained, forgotten = [], []
    for k in range(len(federation)):
        data = federation.client(k)
        asked = request.of(k)
        if asked:
            forgotten.append(data.rows.at(torch.tensor(asked)))
        kept = data.labelled(sorted({*asked, *gone.of(k)}))
        if len(kept):
            retained.append(kept)
    test = federation.dataset.test
    triggered, target = None, -1
    if federation.trigger is not None:
        target = federation.trigger.target
        triggered = Rows(federation.trigger.applied(test.x[test.y != target]))
    near, far = _joined(retained), _joined(forgotten)
    return Subjects(near, far, test, triggered, target, removed_classes(near, far))


def removed_classes(retained: LabelledRows, forgotten: LabelledRows) -> tuple[int, ...]:
    """The classes of forgotten rows of which no row remains, in their order."""
    return tuple(np.setdiff1d(forgotten.y.numpy(), retained.y.numpy()).tolist())


def _joined(parts: list[LabelledRows]) -> LabelledRows:
    if not parts:
        raise ValueError("a measurement needs at least one row of each kind")
    return LabelledRows(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]))
