"""Projected ascent on a leaver: up the loss of its rows, never far from where it began."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fedlaf.client import batches
from fedlaf.client.context import Visit
from fedlaf.core.cost import Cost
from fedlaf.core.types import Numbers
from fedlaf.data import LabelledRows, as_input
from fedlaf.models import Classifier, Descent
from fedlaf.models.arrays import load_weights, weights_of
from fedlaf.objectives.classification import Ascend
from fedlaf.protocol.messages import Part, Reply, settings_from_config


def ascend(visit: Visit) -> tuple[Reply, Cost]:
    """Steps of projected ascent over the rows to forget, from the model that was sent."""
    settings = settings_from_config(Ascend, visit.told.settings)
    load_weights(visit.model, visit.told.weights(Part.MODEL))
    rows = visit.data.labelled_at(visit.split[0])
    radius = float(visit.told.settings["radius"])
    numbers, cost = climb(visit.model, rows, settings, radius, visit.stream("ascend"))
    return Reply({Part.MODEL: weights_of(visit.model)}, numbers), cost


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
    return numbers, Cost(gradient_passes=passes, labels_read=passes)


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
