"""The teacher on a client: its representations of both kinds of rows, and the densities learned from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fedlaf import wire
from fedlaf.client import batches, representing, stacked, store
from fedlaf.client.stacked import Lesson
from fedlaf.client.visit import AIMED, GOALS, OWN_VAE, TAUGHT, Visit
from fedlaf.cost import Cost
from fedlaf.models import Gaussian
from fedlaf.objectives import Represent
from fedlaf.types import Numbers
from fedlaf.wire import Part, Reply


def teach(visit: Visit) -> tuple[Reply, Cost]:
    """Keep the teacher's representations of both kinds of rows; answer with their moments."""
    settings = wire.settings_from_config(Represent, visit.told.settings)
    store.drop(visit.context, OWN_VAE, AIMED, GOALS)
    store.load(visit.model.extractor, visit.told.weights(Part.EXTRACTOR))
    remaining = visit.data.inputs(visit.split[1])
    pool = batches.pool(len(remaining), settings.most_rows, visit.stream("pool"))
    retained, forgotten = (
        representing.representations(visit.model.extractor, rows, visit.model.dims)
        for rows in (remaining.at(pool), visit.data.inputs_at(visit.split[0]))
    )
    store.keep(visit.context, TAUGHT, {"pool": pool, "retained": retained, "forgotten": forgotten})
    learned = _learned(retained, forgotten, settings)
    cost = Cost(forward_passes=len(retained) + len(forgotten))
    moments = representing.moments(learned, full=settings.density == "gaussian")
    return Reply({Part.VAE: moments}, {"rows": float(len(learned))}), cost


def represent(visit: Visit) -> tuple[Reply, Cost]:
    """Train h on the teacher's representations."""
    settings = wire.settings_from_config(Represent, visit.told.settings)
    one = _lesson(visit, settings)
    return _learnt(one, *representing.fit_vae(one.vae, one.rows, settings, one.epochs, one.stream))


def represent_together(visits: Sequence[Visit]) -> list[tuple[Reply, Cost]]:
    """The same for clients that were told the same, their VAEs stacked."""
    settings = wire.settings_from_config(Represent, visits[0].told.settings)
    lessons = [_lesson(visit, settings) for visit in visits]
    found = stacked.fit_vaes(lessons, settings)
    return [_learnt(one, *told) for one, told in zip(lessons, found, strict=True)]


def _lesson(visit: Visit, settings: Represent) -> Lesson:
    _, retained, forgotten = visit.taught()
    h = visit.vae(settings, "h")
    store.load(h, visit.told.weights(Part.VAE))
    rows = _learned(retained, forgotten, settings)
    return Lesson(h, rows, settings.epochs, visit.stream("represent", visit.told.round))


def _learnt(one: Lesson, loss: float, passes: int) -> tuple[Reply, Cost]:
    numbers: Numbers = {"loss": loss, "rows": len(one.rows)}
    return Reply({Part.VAE: store.weights_of(one.vae)}, numbers), Cost(vae_passes=passes)


def represent_own(visit: Visit) -> tuple[Reply, Cost]:
    """Train h_f on the forgotten rows; it stays here, unless the settings share it."""
    settings = wire.settings_from_config(Represent, visit.told.settings)
    _, _, forgotten = visit.taught()
    h, h_f = visit.density(settings, "h"), visit.density(settings, "h_f")
    store.load(h, visit.told.weights(Part.VAE))
    loss, passes = 0.0, 0
    if isinstance(h_f, Gaussian):
        h_f.fit(*representing.moments_of(forgotten, full=True))
    else:
        h_f.shift.copy_(h.shift)
        h_f.scale.copy_(h.scale)
        stream = visit.stream("own_vae")
        loss, passes = representing.fit_vae(h_f, forgotten, settings, settings.own_epochs, stream)
    store.keep(visit.context, OWN_VAE, h_f.state_dict())
    arrays = {Part.FORGOTTEN_VAE: store.weights_of(h_f)} if settings.share_forgotten else {}
    return Reply(arrays, {"loss": loss, "rows": len(forgotten)}), Cost(vae_passes=passes)


def _learned(retained: torch.Tensor, forgotten: torch.Tensor, settings: Represent) -> torch.Tensor:
    return retained if settings.rows == "retained" else torch.cat([retained, forgotten])
