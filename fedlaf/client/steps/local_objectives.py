"""Local steps of the methods that LAF is compared with: one loop for all of their objectives.

An objective that reads no labels is given rows that have none; its type decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from fedlaf.client import batches
from fedlaf.client.context import ClientContext
from fedlaf.client.registry import client_step
from fedlaf.client.steps.teachers import LOGITS
from fedlaf.core.cost import Cost
from fedlaf.core.types import Numbers
from fedlaf.data import LabelledRows, Rows, as_input
from fedlaf.models import HEAD, Descent
from fedlaf.models.arrays import load_weights, weights_of
from fedlaf.objectives import DistilBoth, DistilForgotten, DistilHead, Hold, NegGrad, Push, Shrink
from fedlaf.objectives.logit_objectives import Batch, LabelFree, LabelledBatch, Local, Objective, Supervised
from fedlaf.protocol.messages import Part, Reply

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
    """The same rows with their labels."""

    labelled: LabelledRows

    def batch(self, at: Tensor, student: Tensor) -> LabelledBatch:
        """What an objective sees of the rows at positions [N], whose logits the student gives."""
        return LabelledBatch(student, self.teacher[at], self.labelled.at(at).y.to(student.device))


def label_free(context: ClientContext, settings: LabelFree) -> Reply:
    """Local steps on the client's rows without their labels."""
    return _local_steps(context, settings, unlabelled(context, teacher=settings.teacher))


def supervised(context: ClientContext, settings: Supervised) -> Reply:
    """Local steps on the client's rows with their labels."""
    return _local_steps(context, settings, labelled(context, teacher=settings.teacher))


for _name, _kind in {
    "push": Push, "distil": DistilBoth, "distil_forgotten": DistilForgotten, "shrink": Shrink,
}.items():  # fmt: skip
    client_step(_name, _kind)(label_free)
for _name, _kind in {"neggrad": NegGrad, "hold": Hold}.items():
    client_step(_name, _kind)(supervised)


@client_step("distil_head", DistilHead)
def distil_head(context: ClientContext, settings: DistilHead) -> Reply:
    """Local steps of the head alone, which alone comes back."""
    reply = label_free(context, settings)
    model = reply.arrays[Part.MODEL]
    return replace(reply, arrays={Part.HEAD: {k: v for k, v in model.items() if k.startswith(HEAD)}})


def _local_steps(context: ClientContext, settings: Objective[B], kinds: tuple[Kind[B], Kind[B]]) -> Reply:
    load_weights(context.model, context.instruction.weights(Part.MODEL))
    stream = context.stream("rows", context.instruction.round)
    numbers, cost = steps(context.model, kinds, settings, stream)
    retain, forget = sizes(kinds, settings)
    numbers |= {"retain": retain, "forget": forget, "rows": retain + forget}
    return Reply({Part.MODEL: weights_of(context.model)}, numbers, cost)


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
        retain, forget = (k.batch(drawn, of) for k, drawn, of in zip(kinds, at, students, strict=True))
        loss = objective.loss(retain, forget)
        descent.step(loss, objective.clip)
        passes += len(x)
    return {"loss": float(loss.detach())}, Cost(gradient_passes=passes)


def sizes(kinds: tuple[Kind[Any], Kind[Any]], objective: Local) -> tuple[int, int]:
    """How many remaining and forgotten rows the objective uses of those that there are."""
    retain, forget = (len(kind) * used for kind, used in zip(kinds, objective.uses, strict=True))
    return retain, forget


def unlabelled(context: ClientContext, *, teacher: bool) -> tuple[Side, Side]:
    """Retain rows in use and forget rows, without labels, with their teachers' logits."""
    pool, *logits = _teacher_logits(context, teacher)
    retain, forget = (Side(*kind) for kind in zip(context.rows(pool), logits, strict=True))
    return retain, forget


def labelled(context: ClientContext, *, teacher: bool) -> tuple[LabelledSide, LabelledSide]:
    """The same with labels."""
    pool, *logits = _teacher_logits(context, teacher)
    retain, forget = (
        LabelledSide(rows.unlabelled(), of_rows, rows)
        for rows, of_rows in zip(context.labelled_rows(pool), logits, strict=True)
    )
    return retain, forget


def _teacher_logits(context: ClientContext, teacher: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Positions of the retain rows in use, and the teachers' logits; without teachers all rows and none."""
    if not teacher:
        retain, forget = context.retain_count, len(context.forget_positions)
        return torch.arange(retain), torch.empty(retain, 0), torch.empty(forget, 0)
    kept = context.state.get(LOGITS)
    return kept["pool"], kept["retain"].to(context.device), kept["forget"].to(context.device)
