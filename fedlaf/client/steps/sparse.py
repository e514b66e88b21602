"""FUSED on a client: a round of training that shows what changes, and training of a sparse update."""

from __future__ import annotations

import numpy as np
import torch

from fedlaf.client.context import ClientContext
from fedlaf.client.registry import client_step
from fedlaf.client.steps.masked import only
from fedlaf.client.steps.training import fit, rows_in_use, train
from fedlaf.models.arrays import load_weights, weights_of
from fedlaf.objectives import Fit, SparseFit
from fedlaf.protocol.messages import Part, Reply
from fedlaf.protocol.sparse_updates import unpacked, updated

BASE = "base"
"""Private state: the model that updates are added to, so that it is sent once."""


@client_step("fit_and_keep", Fit)
def fit_and_keep(context: ClientContext, settings: Fit) -> Reply:
    """Train as in federated averaging, and keep the model that was sent."""
    sent = context.instruction.weights(Part.MODEL)
    reply = fit(context, settings)
    context.state.put(BASE, {name: torch.from_numpy(np.array(array)) for name, array in sent.items()})
    return reply


@client_step("sparse_fit", SparseFit)
def sparse_fit(context: ClientContext, settings: SparseFit) -> Reply:
    """Train the update on the labelled retain rows; the model below it keeps its bits."""
    base = {name: tensor.numpy() for name, tensor in context.state.get(BASE).items()}
    instruction = context.instruction
    mask = unpacked(instruction.weights(Part.MASK), base)
    load_weights(context.model, updated(base, mask, instruction.weights(Part.UPDATE)))
    rows = rows_in_use(context, settings)
    allowed = {
        name: torch.from_numpy(mask.get(name, np.zeros(array.shape, bool))) for name, array in base.items()
    }
    with only(context.model, allowed):
        numbers, cost = train(
            context.model, rows, settings, context.stream("fit", instruction.round), frozen=True
        )
    found = weights_of(context.model)
    update = {name: found[name][where] - base[name][where] for name, where in mask.items()}
    return Reply({Part.UPDATE: update}, numbers, cost)
