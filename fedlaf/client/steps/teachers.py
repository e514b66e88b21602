"""Frozen teachers on a client: their logits of its rows, computed once and kept to itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlaf.client import batches
from fedlaf.client.context import ClientContext
from fedlaf.client.registry import client_step
from fedlaf.core.cost import Cost
from fedlaf.core.seeding import seed_for
from fedlaf.core.types import Shape
from fedlaf.data import LabelledRows, Rows, as_input, is_image
from fedlaf.models.arrays import load_weights
from fedlaf.objectives import (
    AdversarialRelabel,
    RandomTeacherLogits,
    TeacherLogits,
    VirtualTeacher,
    logit_losses,
)
from fedlaf.protocol.messages import Part, Reply

LOGITS = "logits"
"""Private state: positions of the retain rows in use, and the teachers' logits of both kinds of rows."""

CHUNK = 250


@client_step("teacher_logits", TeacherLogits)
def teacher_logits(context: ClientContext, settings: TeacherLogits) -> Reply:
    """Keep the original model's logits of both kinds of rows."""
    load_weights(context.model, context.instruction.weights(Part.MODEL))
    return _keep_logits(context, context.model, settings)


@client_step("random_teacher_logits", RandomTeacherLogits)
def random_teacher_logits(context: ClientContext, settings: RandomTeacherLogits) -> Reply:
    """Keep the original model's logits of retain rows, and a randomly initialised model's of forget rows."""
    load_weights(context.model, context.instruction.weights(Part.MODEL))
    return _keep_logits(context, random_model(context), settings)


@client_step("virtual_teacher", VirtualTeacher)
def virtual_teacher(context: ClientContext, settings: VirtualTeacher) -> Reply:
    """Keep the original model's logits of both kinds of rows, a class of each forget row taken back."""
    load_weights(context.model, context.instruction.weights(Part.MODEL))
    reply = _keep_logits(context, context.model, settings)
    kept = context.state.get(LOGITS)
    forget = kept["forget"]
    named = context.data.labelled_at(context.forget_positions).y if settings.labels else forget.argmax(1)
    take_back = logit_losses.without_class if settings.excluded else logit_losses.lowered
    context.state.put(LOGITS, {**kept, "forget": take_back(forget, named)})
    return reply


@client_step("adversarial_relabel", AdversarialRelabel)
def adversarial_relabel(context: ClientContext, settings: AdversarialRelabel) -> Reply:
    """Keep the original model's logits of forget rows moved across the boundary; reads their labels."""
    load_weights(context.model, context.instruction.weights(Part.MODEL))
    rows = context.data.labelled_at(context.forget_positions)
    forget = across(context.model.eval(), rows, settings.epsilon)
    context.state.put(LOGITS, {"pool": torch.arange(0), "retain": forget[:0], "forget": forget})
    count = len(rows)
    return Reply(numbers={"rows": count}, cost=Cost(count, count))


def random_model(context: ClientContext) -> nn.Module:
    """A randomly initialised model: the same weights on all clients of a request."""
    classes = context.model.head(torch.zeros(1, context.model.dims, device=context.device)).shape[1]
    shape: Shape = tuple(context.data.rows.x.shape[1:])
    seed = seed_for(context.instruction.seed, context.instruction.stage, "incompetent teacher")
    return context.spec.model.build(shape, classes, seed).to(context.device)


def across(model: nn.Module, rows: LabelledRows, epsilon: float) -> Tensor:
    """Logits [N, C] of rows moved by one signed gradient step of size `epsilon` against their labels.

    The step is in the unit of a model's input; images are held within [0, 1], floats have no bounds. The
    label's own logit is the least number there is, so that the largest names the nearest wrong class.
    """
    device = next(model.parameters()).device
    found = []
    for chunk in torch.arange(len(rows)).split(CHUNK):
        drawn = rows.at(chunk)
        x, labels = as_input(drawn.x, device).detach().requires_grad_(), drawn.y.to(device)
        loss = functional.cross_entropy(model(x).logits, labels, reduction="sum")
        (slope,) = torch.autograd.grad(loss, x)
        with torch.no_grad():
            moved = x + epsilon * slope.sign()
            there = model(moved.clamp(0, 1) if is_image(drawn.x) else moved).logits
            found.append(logit_losses.without_class(there, labels))
    return torch.cat(found)


@torch.no_grad()
def logits(model: nn.Module, rows: Rows) -> Tensor:
    """Logits [N, C] in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    return torch.cat([model(as_input(x, device)).logits for x in rows.x.split(CHUNK)])


def _keep_logits(context: ClientContext, of_forget: nn.Module, settings: TeacherLogits) -> Reply:
    count = context.retain_count
    used = max(1, round(settings.share * count)) if settings.share else 0
    pool = batches.pool(count, used, context.stream("pool"))
    rows = context.rows(pool)
    retain, forget = logits(context.model, rows[0]), logits(of_forget, rows[1])
    context.state.put(LOGITS, {"pool": pool, "retain": retain, "forget": forget})
    read = len(retain) + len(forget)
    return Reply(numbers={"rows": read}, cost=Cost(forward_passes=read))
