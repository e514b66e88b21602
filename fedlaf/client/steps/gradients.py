"""Gradients that methods on the server work with: FedOSD's of both kinds of rows, and unrolling's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlaf.client import batches
from fedlaf.client.context import ClientContext
from fedlaf.client.registry import client_step
from fedlaf.core.cost import Cost
from fedlaf.core.types import Numbers, Weights
from fedlaf.data import LabelledRows, as_input
from fedlaf.models import gradients_of
from fedlaf.models.arrays import arrays_of, load_weights
from fedlaf.objectives import FedOsdGradients, Unroll, logit_losses
from fedlaf.protocol.messages import Part, Reply

Loss = Callable[[Tensor, Tensor], Tensor]
"""The loss of logits [N, C] and labels [N]."""

CHUNK = 250


@client_step("fedosd_gradients", FedOsdGradients)
def fedosd_gradients(context: ClientContext, settings: FedOsdGradients) -> Reply:
    """Gradients at the global model, one for each kind of rows that the client holds."""
    load_weights(context.model, context.instruction.weights(Part.MODEL))
    rows = context.labelled_rows(torch.arange(context.retain_count))
    kinds: tuple[tuple[str, Loss, str], ...] = (
        (Part.RETAIN_GRADIENT, functional.cross_entropy, "retain"),
        (Part.FORGET_GRADIENT, _unlearning_cross_entropy, "forget"),
    )
    arrays: dict[str, Weights] = {}
    numbers: Numbers = {}
    passes = 0
    for held, (part, loss, kind) in zip(rows, kinds, strict=True):
        numbers[kind] = len(held)
        if len(held):
            drawn = _some(held, settings.share, context.stream(kind, context.instruction.round))
            arrays[part] = mean_gradient(context.model, drawn, loss)
            passes += len(drawn)
    return Reply(arrays, numbers, Cost(gradient_passes=passes))


@client_step("unroll", Unroll)
def unroll(context: ClientContext, settings: Unroll) -> Reply:
    """The sum of the gradients of one pass over forget rows, at the weights that were sent."""
    load_weights(context.model, context.instruction.weights(Part.MODEL))
    rows = context.data.labelled_at(context.forget_positions)
    order = batches.epoch(len(rows), settings.batch_size, context.stream("rows"))
    summed = summed_gradients(context.model, (rows.at(batch) for batch in order), functional.cross_entropy)
    weight = (len(context.data) - len(context.instruction.rows.removed)) / settings.whole
    gradient = {name: weight * array for name, array in summed.items()}
    cost = Cost(gradient_passes=len(rows))
    return Reply({Part.FORGET_GRADIENT: gradient}, {"forget": len(rows)}, cost)


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
        value = loss(model(as_input(piece.x, device)).logits, piece.y.to(device))
        for name, gradient in gradients_of(value, model).items():
            found[name] += gradient
    return arrays_of(found)


def _unlearning_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return logit_losses.mean(logit_losses.unlearning_cross_entropy(logits, labels))


def _some(rows: LabelledRows, share: float, stream: torch.Generator) -> LabelledRows:
    count = ceil(share * len(rows))
    return rows.at(torch.randperm(len(rows), generator=stream)[:count])
