"""The original model as the teacher: its representations of both kinds of rows, and densities of them."""

from __future__ import annotations

import torch

from fedlaf.client import batches
from fedlaf.client.context import TEACHER, ClientContext
from fedlaf.client.registry import client_step
from fedlaf.client.steps import representations
from fedlaf.core.cost import Cost
from fedlaf.models import Gaussian
from fedlaf.models.arrays import load_weights, weights_of
from fedlaf.objectives import Represent
from fedlaf.protocol.messages import Part, Reply

OWN_VAE = "h_f"
"""Private state: the density of the client's forget rows."""


@client_step("teach", Represent)
def teach(context: ClientContext, settings: Represent) -> Reply:
    """Keep the original model's representations of both kinds of rows; send their moments."""
    context.state.clear()
    load_weights(context.model.extractor, context.instruction.weights(Part.EXTRACTOR))
    rows = context.data.inputs(context.absent_positions)
    pool = batches.pool(len(rows), settings.most_rows, context.stream("pool"))
    retain, forget = (
        representations.representations(context.model.extractor, kind, context.model.dims)
        for kind in (rows.at(pool), context.data.inputs_at(context.forget_positions))
    )
    context.state.put(TEACHER, {"pool": pool, "retain": retain, "forget": forget})
    learned = _learned(retain, forget, settings)
    moments = representations.moments(learned, full=settings.density == "gaussian")
    cost = Cost(forward_passes=len(retain) + len(forget))
    return Reply({Part.VAE: moments}, {"rows": float(len(learned))}, cost)


@client_step("represent", Represent)
def represent(context: ClientContext, settings: Represent) -> Reply:
    """Train h on the teacher's representations; send its weights."""
    _, retain, forget = context.teacher()
    h = context.vae(settings, "h")
    load_weights(h, context.instruction.weights(Part.VAE))
    rows = _learned(retain, forget, settings)
    stream = context.stream("represent", context.instruction.round)
    loss, passes = representations.fit_vae(h, rows, settings, settings.epochs, stream)
    return Reply({Part.VAE: weights_of(h)}, {"loss": loss, "rows": len(rows)}, Cost(vae_passes=passes))


@client_step("represent_own", Represent)
def represent_own(context: ClientContext, settings: Represent) -> Reply:
    """Train h_f on the forget rows; it stays here unless the settings share it."""
    _, _, forget = context.teacher()
    h, h_f = context.density(settings, "h"), context.density(settings, "h_f")
    load_weights(h, context.instruction.weights(Part.VAE))
    loss, passes = 0.0, 0
    if isinstance(h_f, Gaussian):
        h_f.fit(*representations.moments_of(forget, full=True))
    else:
        h_f.shift.copy_(h.shift)
        h_f.scale.copy_(h.scale)
        stream = context.stream("own_vae")
        loss, passes = representations.fit_vae(h_f, forget, settings, settings.own_epochs, stream)
    context.state.put(OWN_VAE, h_f.state_dict())
    arrays = {Part.FORGET_VAE: weights_of(h_f)} if settings.share_h_f else {}
    return Reply(arrays, {"loss": loss, "rows": len(forget)}, Cost(vae_passes=passes))


def _learned(retain: torch.Tensor, forget: torch.Tensor, settings: Represent) -> torch.Tensor:
    return retain if settings.rows == "retain" else torch.cat([retain, forget])
