"""Projected ascent on the rows to be forgotten: up their loss, within a ball around where it began."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fedlaf.client import batches
from fedlaf.client.context import ClientContext
from fedlaf.client.registry import client_step
from fedlaf.core.cost import Cost
from fedlaf.core.types import Numbers
from fedlaf.data import LabelledRows, as_input
from fedlaf.models import Classifier, Descent
from fedlaf.models.arrays import load_weights, weights_of
from fedlaf.objectives import Ascend
from fedlaf.protocol.messages import Part, Reply


@client_step("ascend", Ascend)
def ascend(context: ClientContext, settings: Ascend) -> Reply:
    """Steps of projected ascent over the forget rows, from the model that was sent."""
    load_weights(context.model, context.instruction.weights(Part.MODEL))
    rows = context.data.labelled_at(context.forget_positions)
    radius = float(context.instruction.settings["radius"])
    numbers, cost = climb(context.model, rows, settings, radius, context.stream("ascend"))
    return Reply({Part.MODEL: weights_of(context.model)}, numbers, cost)


def climb(
    model: Classifier, rows: LabelledRows, settings: Ascend, radius: float, stream: torch.Generator
) -> tuple[Numbers, Cost]:
    """Ascend in place until a batch is as wrong as wanted, or the epochs are over.

    Normalisation keeps its statistics. `distance` is how far the model went, in Euclidean norm.
    """
    parameters = list(model.parameters())
    centre = [parameter.detach().clone() for parameter in parameters]
    device = centre[0].device
    descent = Descent(torch.optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum), model)
    model.eval()
    passes, accuracy = 0, 1.0
    steps = settings.epochs * -(-len(rows) // settings.batch_size)
    for batch in batches.steps(len(rows), settings.batch_size, steps, stream):
        drawn = rows.at(batch)
        labels = drawn.y.to(device)
        logits = model(as_input(drawn.x, device)).logits
        passes += len(batch)
        accuracy = float((logits.argmax(1) == labels).float().mean())
        if accuracy <= settings.enough:
            break
        descent.step(-functional.cross_entropy(logits, labels), settings.clip)
        project(parameters, centre, radius)
    numbers = {"rows": float(len(rows)), "accuracy": accuracy, "distance": distance(parameters, centre)}
    return numbers, Cost(gradient_passes=passes)


@torch.no_grad()
def project(point: Sequence[Tensor], centre: Sequence[Tensor], radius: float) -> None:
    """Move `point`, in place, to the nearest place within `radius` of `centre`."""
    away = distance(point, centre)
    if away > radius:
        for one, other in zip(point, centre, strict=True):
            one.copy_(other + (one - other) * (radius / away))


@torch.no_grad()
def distance(point: Sequence[Tensor], centre: Sequence[Tensor]) -> float:
    """The Euclidean distance over all tensors."""
    squares = [(one - other).square().sum() for one, other in zip(point, centre, strict=True)]
    return float(torch.stack(squares).sum().sqrt())
