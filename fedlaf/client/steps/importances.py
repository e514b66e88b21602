"""How much each weight matters to a client's rows: what dampening and masks are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlaf.client import batches
from fedlaf.client.context import ClientContext
from fedlaf.client.registry import client_step
from fedlaf.client.steps.gradients import CHUNK, summed_gradients
from fedlaf.core.cost import Cost
from fedlaf.core.types import Numbers, Weights
from fedlaf.data import LabelledRows, Rows, as_input
from fedlaf.models import gradients_of
from fedlaf.models.arrays import arrays_of, load_weights
from fedlaf.objectives import Importance, LabelFreeImportance, Saliency
from fedlaf.protocol.messages import Part, Reply

R = TypeVar("R", Rows, LabelledRows)
Matter = Callable[[nn.Module, R], Mapping[str, Tensor]]
"""How much each weight of a model matters to one batch of rows."""

KINDS = (Part.RETAIN_IMPORTANCE, Part.FORGET_IMPORTANCE)


@client_step("importance", Importance)
def importance(context: ClientContext, settings: Importance) -> Reply:
    """Squared gradients of the cross-entropy of both kinds of rows, summed over batches."""
    kinds = context.labelled_rows(_used(context, settings))
    return _importances(context, settings, kinds, squared_gradients)


@client_step("label_free_importance", LabelFreeImportance)
def label_free_importance(context: ClientContext, settings: LabelFreeImportance) -> Reply:
    """Absolute gradients of the squared norm of both kinds' logits, summed over batches."""
    return _importances(context, settings, context.rows(_used(context, settings)), absolute_gradients)


@client_step("saliency", Saliency)
def saliency(context: ClientContext, settings: Saliency) -> Reply:
    """The gradient of the summed cross-entropy of forget rows."""
    load_weights(context.model, context.instruction.weights(Part.MODEL))
    rows = context.data.labelled_at(context.forget_positions)
    pieces = (rows.at(chunk) for chunk in torch.arange(len(rows)).split(CHUNK))

    def whole(logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, reduction="sum")

    gradient = summed_gradients(context.model, pieces, whole)
    return Reply({Part.FORGET_GRADIENT: gradient}, {"forget": len(rows)}, Cost(gradient_passes=len(rows)))


def squared_gradients(model: nn.Module, rows: LabelledRows) -> dict[str, Tensor]:
    """The square of the gradient of the mean cross-entropy of rows."""
    logits = model(as_input(rows.x, _device(model))).logits
    found = gradients_of(functional.cross_entropy(logits, rows.y.to(logits.device)), model)
    return {name: gradient.square() for name, gradient in found.items()}


def absolute_gradients(model: nn.Module, rows: Rows) -> dict[str, Tensor]:
    """The absolute gradient of the mean squared norm of the logits of rows."""
    logits = model(as_input(rows.x, _device(model))).logits
    found = gradients_of(logits.square().sum(1).mean(), model)
    return {name: gradient.abs() for name, gradient in found.items()}


def _used(context: ClientContext, settings: Importance) -> Tensor:
    """Positions of the remaining rows in use."""
    count = context.retain_count
    return batches.pool(count, ceil(settings.share * count), context.stream("pool"))


def _importances(
    context: ClientContext, settings: Importance, kinds: tuple[R, R], matter: Matter[R]
) -> Reply:
    """One sum for each kind of rows that the client holds, and how many rows it is of."""
    load_weights(context.model, context.instruction.weights(Part.MODEL))
    arrays: dict[str, Weights] = {}
    numbers: Numbers = {}
    for part, kind, rows in zip(KINDS, ("retain", "forget"), kinds, strict=True):
        numbers[kind] = len(rows)
        if len(rows):
            order = batches.epoch(len(rows), settings.batch_size, context.stream(kind))
            arrays[part] = summed_over_batches(context.model, rows, order, matter)
    return Reply(arrays, numbers, Cost(gradient_passes=sum(len(rows) for rows in kinds)))


def summed_over_batches(model: nn.Module, rows: R, order: Iterable[Tensor], matter: Matter[R]) -> Weights:
    """The sum over batches of how much each weight matters to it, times its rows; in evaluation mode. Added
    up in double precision, given in that of the weights, which is half the message.
    """
    model.eval()
    found = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in model.named_parameters()}
    for at in order:
        for name, value in matter(model, rows.at(at)).items():
            found[name] += len(at) * value.double()
    return arrays_of({name: found[name].to(p) for name, p in model.named_parameters()})


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
