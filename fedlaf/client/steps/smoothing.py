"""JiT on a client: steps that bring forgotten rows near their noisy copies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedlaf.client import batches
from fedlaf.client.context import ClientContext
from fedlaf.client.registry import client_step
from fedlaf.core.cost import Cost
from fedlaf.core.types import Numbers
from fedlaf.data import Rows, as_input
from fedlaf.models import Descent
from fedlaf.models.arrays import load_weights, weights_of
from fedlaf.objectives import Smooth
from fedlaf.protocol.messages import Part, Reply


@client_step("smooth", Smooth)
def smooth(context: ClientContext, settings: Smooth) -> Reply:
    """Local steps on forget rows, without their labels."""
    load_weights(context.model, context.instruction.weights(Part.MODEL))
    _, forget = context.rows(torch.arange(0))
    stream = context.stream("rows", context.instruction.round)
    numbers, cost = smoothed(context.model, forget, settings, stream)
    return Reply({Part.MODEL: weights_of(context.model)}, {**numbers, "rows": len(forget)}, cost)


def smoothed(model: nn.Module, rows: Rows, settings: Smooth, stream: torch.Generator) -> tuple[Numbers, Cost]:
    """Take the steps in place. Gives the last loss."""
    model.eval()  # BatchNorm statistics stay those of the original
    device = next(model.parameters()).device
    descent, passes, loss = Descent(settings.optimiser(model), model), 0, torch.zeros(())
    for at in batches.steps(len(rows), settings.batch_size, settings.count(len(rows)), stream):
        x = as_input(rows.at(at).x, device)
        clean = model(x).logits
        slopes = [
            settings.slopes(clean, *_noisy(model, x, settings.sigma, stream)) for _ in range(settings.samples)
        ]
        loss = torch.stack(slopes).mean()
        descent.step(loss, settings.clip)
        passes += len(x)
    cost = Cost(gradient_passes=passes, forward_passes=settings.samples * passes)
    return {"loss": float(loss.detach())}, cost


@torch.no_grad()
def _noisy(model: nn.Module, x: Tensor, sigma: float, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    noise = sigma * torch.randn(x.shape, generator=stream).to(x)
    logits: Tensor = model(x + noise).logits
    return logits, noise
