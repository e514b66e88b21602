"""Supervised local training."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

from fedlaf.client import batches
from fedlaf.client.context import ClientContext
from fedlaf.client.registry import client_step
from fedlaf.core.cost import Cost
from fedlaf.core.seeding import torch_stream
from fedlaf.core.types import Numbers
from fedlaf.data import LabelledRows, as_input, is_image, moved
from fedlaf.models import Classifier, Descent
from fedlaf.models.arrays import load_weights, weights_of
from fedlaf.models.normalisation import train_mode
from fedlaf.objectives import Fit
from fedlaf.protocol.messages import Part, Reply


@client_step("fit", Fit)
def fit(context: ClientContext, settings: Fit) -> Reply:
    """Train the global model on the labelled retain rows; what a request left in private state is dropped."""
    context.state.clear()
    instruction = context.instruction
    load_weights(context.model, instruction.weights(Part.MODEL))
    rows = rows_in_use(context, settings)
    numbers, cost = train(context.model, rows, settings, context.stream("fit", instruction.round))
    return Reply({Part.MODEL: weights_of(context.model)}, numbers, cost)


def rows_in_use(context: ClientContext, settings: Fit) -> LabelledRows:
    """The client's remaining rows that are labelled: the same in every round."""
    rows = context.data.labelled(but=context.absent_positions)
    if settings.labels < 1:
        drawn = torch_stream(context.instruction.seed, "labelled", context.client)
        rows = rows.at(batches.pool(len(rows), round(settings.labels * len(rows)), drawn))
    return rows


def train(
    model: Classifier, rows: LabelledRows, settings: Fit, stream: torch.Generator, *, frozen: bool = False
) -> tuple[Numbers, Cost]:
    """Train `model` in place for the settings' steps; gives mean loss of the last epoch and cost. With
    `frozen` normalisation keeps its statistics.
    """
    device = next(model.parameters()).device
    descent = Descent(settings.optimiser(model), model)
    seen: list[tuple[float, int]] = []
    for batch in batches.steps(len(rows), settings.batch_size, settings.steps(len(rows)), stream):
        if frozen:
            model.eval()
        else:
            train_mode(model, len(batch))
        drawn = rows.at(batch)
        x = as_input(augmented(moved(drawn.x, device), settings.augment, stream, model.pixels), device)
        loss = functional.cross_entropy(model(x).logits, moved(drawn.y, device))
        descent.step(loss)
        seen.append((float(loss.detach()), len(batch)))
    last = seen[-ceil(len(rows) / settings.batch_size) :]
    mean = sum(loss * many for loss, many in last) / max(sum(many for _, many in last), 1)
    passes = sum(many for _, many in seen)
    return {"loss": mean, "rows": float(len(rows))}, Cost(gradient_passes=passes)


def augmented(x: Tensor, kind: str, stream: torch.Generator, pixels: int | None = None) -> Tensor:
    """Inputs [N, ...] as they are, or images [N, c, h, w] cropped from 4 pixels of zero padding and flipped,
    each row by its own draw; with `pixels`, at the size that the model works at.
    """
    if kind == "none":
        return x
    if pixels is not None:
        x = resized(x, pixels)
    count, channels, height, width = x.shape
    padded = functional.pad(x, (4, 4, 4, 4))
    top = torch.randint(0, 9, (count,), generator=stream)
    left = torch.randint(0, 9, (count,), generator=stream)
    flip = torch.randint(0, 2, (count,), generator=stream).bool()
    rows = top[:, None] + torch.arange(height)
    columns = torch.arange(width).expand(count, -1)
    columns = torch.where(flip[:, None], columns.flip(1), columns) + left[:, None]
    picked, of = torch.arange(count)[:, None, None, None], torch.arange(channels)[None, :, None, None]
    where = (picked, of, rows[:, None, :, None], columns[:, None, None, :])
    return padded[tuple(index.to(x.device) for index in where)]


def resized(x: Tensor, pixels: int) -> Tensor:
    """[N, c, h, w] as [N, c, pixels, pixels] of the same dtype, bilinear, as the extractor resizes."""
    size = (pixels, pixels)
    found = functional.interpolate(x.float(), size, mode="bilinear", align_corners=False)
    return found.round().byte() if is_image(x) else found.to(x.dtype)
