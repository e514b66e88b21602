"""Frozen teachers on a client: their logits of its rows, computed once and kept to itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlaf.client import batches, private_state
from fedlaf.client.context import LOGITS, Visit
from fedlaf.core.cost import Cost
from fedlaf.core.seeding import seed_for
from fedlaf.data import LabelledRows, Rows, as_input
from fedlaf.models.arrays import load_weights
from fedlaf.objectives import logit_losses
from fedlaf.objectives.logit_objectives import Cross, Mislead, Recall
from fedlaf.protocol.messages import Part, Reply, settings_from_config

CHUNK = 250


def recall(visit: Visit) -> tuple[Reply, Cost]:
    """Keep the original model's logits of both kinds of rows."""
    settings = settings_from_config(Recall, visit.told.settings)
    load_weights(visit.model, visit.told.weights(Part.MODEL))
    return _taught(visit, visit.model, settings)


def mislead(visit: Visit) -> tuple[Reply, Cost]:
    """Keep the original model's logits of remaining rows, and of forgotten ones those of a random one."""
    settings = settings_from_config(Mislead, visit.told.settings)
    load_weights(visit.model, visit.told.weights(Part.MODEL))
    return _taught(visit, incompetent(visit), settings)


def cross(visit: Visit) -> tuple[Reply, Cost]:
    """Keep the original model's logits of forgotten rows moved across the boundary; reads their labels."""
    settings = settings_from_config(Cross, visit.told.settings)
    load_weights(visit.model, visit.told.weights(Part.MODEL))
    rows = visit.data.labelled_at(visit.split[0])
    far = across(visit.model.eval(), rows, settings.epsilon)
    nobody = torch.arange(0)
    private_state.keep(visit.context, LOGITS, {"pool": nobody, "retained": far[:0], "forgotten": far})
    count = len(rows)
    return Reply(numbers={"rows": count}), Cost(count, count, labels_read=count)


def incompetent(visit: Visit) -> nn.Module:
    """A model that has learned nothing: the same random weights on all clients of a request."""
    classes = visit.model.head(torch.zeros(1, visit.model.dims, device=visit.device)).shape[1]
    shape = tuple(visit.data.rows.x.shape[1:])
    named = seed_for(visit.told.seed, visit.told.stage, "incompetent teacher")
    return visit.spec.model.build(shape, classes, named).to(visit.device)  # type: ignore[arg-type]


def across(model: nn.Module, rows: LabelledRows, epsilon: float) -> Tensor:
    """Logits [N, C] of rows moved by one signed gradient step of size `epsilon` against their labels.

    The label's own logit is the least number there is, so that the largest names the nearest wrong class.
    """
    device = next(model.parameters()).device
    found = []
    for chunk in torch.arange(len(rows)).split(CHUNK):
        drawn = rows.at(chunk)
        x, labels = as_input(drawn.x, device).requires_grad_(), drawn.y.to(device)
        loss = functional.cross_entropy(model(x).logits, labels, reduction="sum")
        (slope,) = torch.autograd.grad(loss, x)
        with torch.no_grad():
            moved = model((x + epsilon * slope.sign()).clamp(0, 1)).logits
            found.append(logit_losses.without_class(moved, labels))
    return torch.cat(found)


@torch.no_grad()
def logits(model: nn.Module, rows: Rows) -> Tensor:
    """Logits [N, C] in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    return torch.cat([model(as_input(x, device)).logits for x in rows.x.split(CHUNK)])


def _taught(visit: Visit, of_forgotten: nn.Module, settings: Recall) -> tuple[Reply, Cost]:
    remaining = len(visit.data) - len(visit.split[1])
    pool = batches.pool(remaining, max(1, round(settings.share * remaining)), visit.stream("pool"))
    near, far = visit.rows(pool)
    retained, forgotten = logits(visit.model, near), logits(of_forgotten, far)
    private_state.keep(visit.context, LOGITS, {"pool": pool, "retained": retained, "forgotten": forgotten})
    rows = len(retained) + len(forgotten)
    return Reply(numbers={"rows": rows}), Cost(forward_passes=rows)
