"""LAF with its published losses, on a client: local steps, or gradients for an optimiser on the server."""

from __future__ import annotations

import torch

from fedlaf.client import private_state
from fedlaf.client.context import OWN_VAE, Visit
from fedlaf.client.steps import laf_loop
from fedlaf.client.steps.laf_loop import Side, Task
from fedlaf.core.cost import Cost
from fedlaf.core.types import Numbers
from fedlaf.models.arrays import arrays_of, as_tensors, load_weights, weights_of
from fedlaf.objectives.laf import Forget
from fedlaf.protocol.messages import Part, Reply, settings_from_config


def forget(visit: Visit) -> tuple[Reply, Cost]:
    """Local steps of both losses of LAF over the extractor."""
    settings = settings_from_config(Forget, visit.told.settings)
    task = _task(visit, settings)
    number = visit.told.round + int(visit.told.settings.get("after", 0))
    rows, noise = (visit.stream(name, number) for name in ("rows", "noise"))
    numbers, cost = laf_loop.forget(task, settings, rows, noise)
    numbers |= {"retained": len(task.retained.rows), "forgotten": len(task.forgotten.rows)}
    return Reply({Part.EXTRACTOR: weights_of(task.extractor)}, numbers), cost


def gradient(visit: Visit) -> tuple[Reply, Cost]:
    """Gradients of one of the losses on this step's batches, for the optimiser on the server."""
    settings = settings_from_config(Forget, visit.told.settings)
    loss, step = str(visit.told.settings["loss"]), int(visit.told.settings["step"])
    rows, noise = visit.stream("rows", 1), visit.stream("noise", step)
    found, cost = laf_loop.gradients(_task(visit, settings), settings, loss, step, rows, noise)
    arrays = {Part.RETAINED_GRADIENT: arrays_of(found.retained)}
    if found.forgotten is not None:
        arrays[Part.FORGOTTEN_GRADIENT] = arrays_of(found.forgotten)
    retained, forgotten = found.rows
    numbers: Numbers = {"mass": found.mass, "retained": retained, "forgotten": forgotten}
    return Reply(arrays, numbers), cost


def _task(visit: Visit, settings: Forget) -> Task:
    load_weights(visit.model.extractor, visit.told.weights(Part.EXTRACTOR))
    pool, retained, forgotten = visit.taught()
    h = visit.density(settings, "h")
    if Part.VAE in visit.told.arrays:  # alignment alone needs none
        load_weights(h, visit.told.weights(Part.VAE))
    h_f = h
    if len(forgotten):
        h_f = visit.density(settings, "h_f")
        shared = Part.FORGOTTEN_VAE in visit.told.arrays
        own = visit.told.weights(Part.FORGOTTEN_VAE) if shared else None
        h_f.load_state_dict(private_state.kept(visit.context, OWN_VAE) if own is None else as_tensors(own))
    rows = visit.rows(pool)
    return Task(
        visit.model.extractor,
        h,
        h_f,
        Side(rows[0], retained, torch.ones(len(retained), device=visit.device)),
        Side(rows[1], forgotten, settings.weights(forgotten, h)),
    )
