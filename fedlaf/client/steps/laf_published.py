"""LAF with its published losses: local steps, or gradients for an optimiser on the server."""

from __future__ import annotations

import torch

from fedlaf.client.context import ClientContext
from fedlaf.client.registry import client_step
from fedlaf.client.steps import laf_loop
from fedlaf.client.steps.densities import OWN_VAE
from fedlaf.client.steps.laf_loop import Side, Task
from fedlaf.core.types import Numbers
from fedlaf.models.arrays import arrays_of, as_tensors, load_weights, weights_of
from fedlaf.objectives import Forget
from fedlaf.protocol.messages import Part, Reply


@client_step("forget", Forget)
def forget(context: ClientContext, settings: Forget) -> Reply:
    """Local steps of both losses of LAF over the extractor."""
    task = _task(context, settings)
    rows, noise = (context.stream(name, context.instruction.round) for name in ("rows", "noise"))
    numbers, cost = laf_loop.forget(task, settings, rows, noise)
    numbers |= {"retain": len(task.retain.rows), "forget": len(task.forget.rows)}
    return Reply({Part.EXTRACTOR: weights_of(task.extractor)}, numbers, cost)


@client_step("gradient", Forget)
def gradient(context: ClientContext, settings: Forget) -> Reply:
    """Gradients of one of the losses on this step's batches, for the optimiser on the server."""
    loss, step = (context.instruction.settings[name] for name in ("loss", "step"))
    rows, noise = context.stream("rows", 1), context.stream("noise", int(step))
    found, cost = laf_loop.gradients(_task(context, settings), settings, str(loss), int(step), rows, noise)
    arrays = {Part.RETAIN_GRADIENT: arrays_of(found.retain)}
    if found.forget is not None:
        arrays[Part.FORGET_GRADIENT] = arrays_of(found.forget)
    numbers: Numbers = {"mass": found.mass, "retain": found.rows[0], "forget": found.rows[1]}
    return Reply(arrays, numbers, cost)


def _task(context: ClientContext, settings: Forget) -> Task:
    sent = context.instruction
    load_weights(context.model.extractor, sent.weights(Part.EXTRACTOR))
    pool, retain, forget = context.teacher()
    h = context.density(settings, "h")
    if Part.VAE in sent.arrays:  # alignment alone needs none
        load_weights(h, sent.weights(Part.VAE))
    h_f = h
    if len(forget):
        h_f = context.density(settings, "h_f")
        shared = Part.FORGET_VAE in sent.arrays
        own = as_tensors(sent.weights(Part.FORGET_VAE)) if shared else context.state.get(OWN_VAE)
        h_f.load_state_dict(own)
    rows = context.rows(pool)
    return Task(
        context.model.extractor,
        h,
        h_f,
        Side(rows[0], retain, torch.ones(len(retain), device=context.device)),
        Side(rows[1], forget, settings.weights(forget, h)),
    )
