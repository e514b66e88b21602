"""The teacher on a client: its representations of both kinds of rows, and the densities learned from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fedlaf.client import batches, private_state, stacked
from fedlaf.client.context import AIMED, GOALS, OWN_VAE, TAUGHT, Visit
from fedlaf.client.stacked import Lesson
from fedlaf.client.steps import representations
from fedlaf.core.cost import Cost
from fedlaf.core.types import Numbers
from fedlaf.models import Gaussian
from fedlaf.models.arrays import load_weights, weights_of
from fedlaf.objectives.laf import Represent
from fedlaf.protocol.messages import Part, Reply, settings_from_config


def teach(visit: Visit) -> tuple[Reply, Cost]:
    """Keep the teacher's representations of both kinds of rows; answer with their moments."""
    settings = settings_from_config(Represent, visit.told.settings)
    private_state.drop(visit.context, OWN_VAE, AIMED, GOALS)
    load_weights(visit.model.extractor, visit.told.weights(Part.EXTRACTOR))
    remaining = visit.data.inputs(visit.split[1])
    pool = batches.pool(len(remaining), settings.most_rows, visit.stream("pool"))
    retained, forgotten = (
        representations.representations(visit.model.extractor, rows, visit.model.dims)
        for rows in (remaining.at(pool), visit.data.inputs_at(visit.split[0]))
    )
    private_state.keep(visit.context, TAUGHT, {"pool": pool, "retained": retained, "forgotten": forgotten})
    learned = _learned(retained, forgotten, settings)
    cost = Cost(forward_passes=len(retained) + len(forgotten))
    moments = representations.moments(learned, full=settings.density == "gaussian")
    return Reply({Part.VAE: moments}, {"rows": float(len(learned))}), cost


def represent(visit: Visit) -> tuple[Reply, Cost]:
    """Train h on the teacher's representations."""
    settings = settings_from_config(Represent, visit.told.settings)
    one = _lesson(visit, settings)
    return _learnt(one, *representations.fit_vae(one.vae, one.rows, settings, one.epochs, one.stream))


def represent_together(visits: Sequence[Visit]) -> list[tuple[Reply, Cost]]:
    """The same for clients that were told the same, their VAEs stacked."""
    settings = settings_from_config(Represent, visits[0].told.settings)
    lessons = [_lesson(visit, settings) for visit in visits]
    found = stacked.fit_vaes(lessons, settings)
    return [_learnt(one, *told) for one, told in zip(lessons, found, strict=True)]


def _lesson(visit: Visit, settings: Represent) -> Lesson:
    _, retained, forgotten = visit.taught()
    h = visit.vae(settings, "h")
    load_weights(h, visit.told.weights(Part.VAE))
    rows = _learned(retained, forgotten, settings)
    return Lesson(h, rows, settings.epochs, visit.stream("represent", visit.told.round))


def _learnt(one: Lesson, loss: float, passes: int) -> tuple[Reply, Cost]:
    numbers: Numbers = {"loss": loss, "rows": len(one.rows)}
    return Reply({Part.VAE: weights_of(one.vae)}, numbers), Cost(vae_passes=passes)


def represent_own(visit: Visit) -> tuple[Reply, Cost]:
    """Train h_f on the forgotten rows; it stays here, unless the settings share it."""
    settings = settings_from_config(Represent, visit.told.settings)
    _, _, forgotten = visit.taught()
    h, h_f = visit.density(settings, "h"), visit.density(settings, "h_f")
    load_weights(h, visit.told.weights(Part.VAE))
    loss, passes = 0.0, 0
    if isinstance(h_f, Gaussian):
        h_f.fit(*representations.moments_of(forgotten, full=True))
    else:
        h_f.shift.copy_(h.shift)
        h_f.scale.copy_(h.scale)
        stream = visit.stream("own_vae")
        loss, passes = representations.fit_vae(h_f, forgotten, settings, settings.own_epochs, stream)
    private_state.keep(visit.context, OWN_VAE, h_f.state_dict())
    arrays = {Part.FORGOTTEN_VAE: weights_of(h_f)} if settings.share_forgotten else {}
    return Reply(arrays, {"loss": loss, "rows": len(forgotten)}), Cost(vae_passes=passes)


def _learned(retained: torch.Tensor, forgotten: torch.Tensor, settings: Represent) -> torch.Tensor:
    return retained if settings.rows == "retained" else torch.cat([retained, forgotten])
