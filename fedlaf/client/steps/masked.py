"""SalUn on a client: random classes for forgotten rows, and steps of the weights that a mask lets change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedlaf.client import batches
from fedlaf.client.context import ClientContext
from fedlaf.client.registry import client_step
from fedlaf.client.steps.local_objectives import supervised
from fedlaf.client.steps.teachers import LOGITS
from fedlaf.core.cost import Cost
from fedlaf.objectives import RandomLabels, Relabel
from fedlaf.protocol.messages import Part, Reply


@client_step("random_labels", RandomLabels)
def random_labels(context: ClientContext, settings: RandomLabels) -> Reply:
    """Keep a random class other than its own for each forget row; reads their labels."""
    count = context.retain_count
    pool = batches.pool(count, max(1, round(settings.share * count)), context.stream("pool"))
    labels = context.data.labelled_at(context.forget_positions).y
    classes = context.model.head(torch.zeros(1, context.model.dims, device=context.device)).shape[1]
    drawn = other_classes(labels, classes, context.stream("labels"))
    teacher = torch.nn.functional.one_hot(drawn, classes).float()
    context.state.put(LOGITS, {"pool": pool, "retain": torch.empty(len(pool), 0), "forget": teacher})
    return Reply(numbers={"rows": len(labels)}, cost=Cost())


@client_step("masked_relabel", Relabel)
def masked_relabel(context: ClientContext, settings: Relabel) -> Reply:
    """Local steps of the weights that the mask lets change: others keep their bits."""
    mask = context.instruction.weights(Part.MASK)
    with only(context.model, {name: torch.from_numpy(array.copy()) for name, array in mask.items()}):
        return supervised(context, settings)


def other_classes(labels: Tensor, classes: int, stream: torch.Generator) -> Tensor:
    """A class for each label [N], uniform among the `classes` but the label."""
    steps = torch.randint(1, max(classes, 2), (len(labels),), generator=stream)
    return (labels + steps) % classes


@contextmanager
def only(model: nn.Module, mask: Mapping[str, Tensor]) -> Iterator[None]:
    """Gradients are 0 where the mask is false, while the context lasts."""

    def held(allowed: Tensor) -> object:
        return lambda gradient: gradient * allowed.to(gradient)

    hooks = [parameter.register_hook(held(mask[name])) for name, parameter in model.named_parameters()]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
