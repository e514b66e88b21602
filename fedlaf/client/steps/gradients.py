"""Gradients that methods on the server work with: FedOSD's of both kinds of rows, and unrolling's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlaf.client import batches
from fedlaf.client.context import Visit
from fedlaf.core.cost import Cost
from fedlaf.core.types import Numbers, Weights
from fedlaf.data import LabelledRows, as_input
from fedlaf.models import gradients_of
from fedlaf.models.arrays import arrays_of, load_weights
from fedlaf.objectives import logit_losses
from fedlaf.objectives.logit_objectives import Oppose, Unroll
from fedlaf.protocol.messages import Part, Reply, settings_from_config

Loss = Callable[[Tensor, Tensor], Tensor]
"""The loss of logits [N, C] and labels [N]."""

CHUNK = 250


def oppose(visit: Visit) -> tuple[Reply, Cost]:
    """Gradients at the global model, of each kind of rows that the client holds."""
    settings = settings_from_config(Oppose, visit.told.settings)
    load_weights(visit.model, visit.told.weights(Part.MODEL))
    forget, absent = visit.split
    kinds = (
        (Part.RETAINED_GRADIENT, visit.data.labelled(absent), functional.cross_entropy, "retained"),
        (Part.FORGOTTEN_GRADIENT, visit.data.labelled_at(forget), _disbelief, "forgotten"),
    )
    arrays: dict[Part, Weights] = {}
    numbers: Numbers = {}
    passes = 0
    for part, rows, loss, name in kinds:
        numbers[name] = len(rows)
        if len(rows):
            drawn = _some(rows, settings.share, visit.stream(name, visit.told.round))
            arrays[part] = mean_gradient(visit.model, drawn, loss)
            passes += len(drawn)
    return Reply(arrays, numbers), Cost(gradient_passes=passes, labels_read=passes)


def unroll(visit: Visit) -> tuple[Reply, Cost]:
    """The sum of the gradients of one pass over forgotten rows, at the weights that were sent."""
    settings = settings_from_config(Unroll, visit.told.settings)
    load_weights(visit.model, visit.told.weights(Part.MODEL))
    rows = visit.data.labelled_at(visit.split[0])
    order = batches.epoch(len(rows), settings.batch_size, visit.stream("rows"))
    found = summed_gradients(visit.model, (rows.at(batch) for batch in order), functional.cross_entropy)
    weight = (len(visit.data) - len(visit.told.rows.gone)) / settings.whole
    found = {name: weight * array for name, array in found.items()}
    numbers: Numbers = {"forgotten": len(rows)}
    cost = Cost(gradient_passes=len(rows), labels_read=len(rows))
    return Reply({Part.FORGOTTEN_GRADIENT: found}, numbers), cost


def mean_gradient(model: nn.Module, rows: LabelledRows, loss: Loss) -> Weights:
    """The gradient of the mean loss over rows, for each parameter."""
    pieces = [rows.at(chunk) for chunk in torch.arange(len(rows)).split(CHUNK)]

    def part(logits: Tensor, labels: Tensor) -> Tensor:
        return loss(logits, labels) * (len(labels) / len(rows))

    return summed_gradients(model, iter(pieces), part)


def summed_gradients(model: nn.Module, pieces: Iterator[LabelledRows], loss: Loss) -> Weights:
    """The sum over pieces of the gradient of a piece's loss, for each parameter; in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    found = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for piece in pieces:
        told = loss(model(as_input(piece.x, device)).logits, piece.y.to(device))
        for name, gradient in gradients_of(told, model).items():
            found[name] += gradient
    return arrays_of(found)


def _disbelief(logits: Tensor, labels: Tensor) -> Tensor:
    return logit_losses.mean(logit_losses.disbelief(logits, labels))


def _some(rows: LabelledRows, share: float, stream: torch.Generator) -> LabelledRows:
    count = ceil(share * len(rows))
    return rows.at(torch.randperm(len(rows), generator=stream)[:count])
