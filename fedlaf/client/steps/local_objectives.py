"""Local steps of the methods that LAF is compared with: one loop for all of their objectives.

An objective that reads no labels is given rows that have none; its type decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from fedlaf.client import batches, private_state
from fedlaf.client.context import LOGITS, Visit
from fedlaf.core.cost import Cost
from fedlaf.core.types import Numbers
from fedlaf.data import Rows, as_input
from fedlaf.models import Descent
from fedlaf.models.arrays import load_weights, weights_of
from fedlaf.objectives.logit_objectives import Batch, LabelFree, LabelledBatch, Local, Objective, Supervised
from fedlaf.protocol.messages import Part, Reply, settings_from_config

B_co = TypeVar("B_co", bound=Batch, covariant=True)
B = TypeVar("B", bound=Batch)


class Kind(Protocol[B_co]):
    """One kind of a client's rows: what the loop needs of it."""

    def __len__(self) -> int: ...

    def inputs(self, at: Tensor) -> Tensor:
        """The inputs at positions [N]."""

    def batch(self, at: Tensor, student: Tensor) -> B_co:
        """What an objective sees of the rows at positions [N], whose logits the student gives."""


@dataclass(frozen=True)
class Side:
    """Rows without labels and their teacher's logits [P, C] ([P, 0]: none)."""

    rows: Rows
    teacher: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def inputs(self, at: Tensor) -> Tensor:
        """The inputs at positions [N]."""
        return self.rows.at(at).x

    def batch(self, at: Tensor, student: Tensor) -> Batch:
        """What an objective sees of the rows at positions [N], whose logits the student gives."""
        return Batch(student, self.teacher[at])


@dataclass(frozen=True)
class LabelledSide(Side):
    """The same with labels [P]."""

    labels: Tensor

    def batch(self, at: Tensor, student: Tensor) -> LabelledBatch:
        """What an objective sees of the rows at positions [N], whose logits the student gives."""
        return LabelledBatch(student, self.teacher[at], self.labels[at])


def label_free(visit: Visit, kind: type[LabelFree]) -> tuple[Reply, Cost]:
    """Local steps on the client's rows without their labels."""
    numbers, cost = _steps(visit, kind, unlabelled(visit, taught=kind.taught))
    return _answer(visit, numbers), cost


def supervised(visit: Visit, kind: type[Supervised]) -> tuple[Reply, Cost]:
    """Local steps on the client's rows with their labels."""
    numbers, cost = _steps(visit, kind, labelled(visit, taught=kind.taught))
    return _answer(visit, numbers), cost + Cost(labels_read=cost.gradient_passes)


def _answer(visit: Visit, numbers: Numbers) -> Reply:
    return Reply({Part.MODEL: weights_of(visit.model)}, numbers)


def _steps(visit: Visit, kind: type[Objective[B]], sides: tuple[Kind[B], Kind[B]]) -> tuple[Numbers, Cost]:
    objective = settings_from_config(kind, visit.told.settings)
    load_weights(visit.model, visit.told.weights(Part.MODEL))
    stream = visit.stream("rows", int(visit.told.settings["turn"]))
    numbers, cost = steps(visit.model, sides, objective, stream)
    retained, forgotten = sizes(sides, objective)
    return numbers | {"retained": retained, "forgotten": forgotten, "rows": retained + forgotten}, cost


def steps(
    model: nn.Module, kinds: tuple[Kind[B], Kind[B]], objective: Objective[B], stream: torch.Generator
) -> tuple[Numbers, Cost]:
    """Take the objective's steps in place; one forward pass for both kinds of rows. Gives the last loss."""
    model.eval()  # BatchNorm statistics stay those of the original
    device = next(model.parameters()).device
    descent = Descent(objective.optimiser(model), model)
    rows = sizes(kinds, objective)
    passes, loss = 0, torch.zeros(())
    for at in batches.pairs(rows, objective.batch_size, objective.count(max(rows)), stream):
        x = torch.cat([kind.inputs(drawn) for kind, drawn in zip(kinds, at, strict=True)])
        students = model(as_input(x, device)).logits.split([len(at[0]), len(at[1])])
        near, far = (k.batch(drawn, of) for k, drawn, of in zip(kinds, at, students, strict=True))
        loss = objective.loss(near, far)
        descent.step(loss, objective.clip)
        passes += len(x)
    return {"loss": float(loss.detach())}, Cost(gradient_passes=passes)


def sizes(kinds: tuple[Kind[Any], Kind[Any]], objective: Local) -> tuple[int, int]:
    """How many remaining and forgotten rows the objective uses of those that there are."""
    near, far = (len(kind) * used for kind, used in zip(kinds, objective.uses, strict=True))
    return near, far


def unlabelled(visit: Visit, *, taught: bool) -> tuple[Side, Side]:
    """Remaining rows in use and forgotten ones, without labels."""
    pool, retained, forgotten = _teachers(visit, taught)
    near, far = visit.rows(pool)
    return Side(near, retained), Side(far, forgotten)


def labelled(visit: Visit, *, taught: bool) -> tuple[LabelledSide, LabelledSide]:
    """The same with labels."""
    pool, retained, forgotten = _teachers(visit, taught)
    near, far = visit.labelled_rows(pool)
    device = visit.device
    return (
        LabelledSide(near.unlabelled(), retained, near.y.to(device)),
        LabelledSide(far.unlabelled(), forgotten, far.y.to(device)),
    )


def _teachers(visit: Visit, taught: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Positions of the remaining rows in use, and the teachers' logits; untaught, all rows and none."""
    if not taught:
        forgotten, absent = visit.split
        remaining = len(visit.data) - len(absent)
        return torch.arange(remaining), torch.empty(remaining, 0), torch.empty(len(forgotten), 0)
    kept = private_state.kept(visit.context, LOGITS)
    return kept["pool"], kept["retained"].to(visit.device), kept["forgotten"].to(visit.device)
