"""LAF with a target for every row: outliers found, targets assigned, the extractor aligned with them.

No label anywhere: the rows are of the type that has none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedlaf.client import batches
from fedlaf.client.context import ClientContext
from fedlaf.client.registry import client_step
from fedlaf.core.cost import Cost
from fedlaf.core.types import Numbers
from fedlaf.data import Rows, as_input
from fedlaf.models import Density, Descent
from fedlaf.models.arrays import as_tensors, load_weights, weights_of
from fedlaf.objectives import Alignment, TargetRule, laf_losses, laf_targets
from fedlaf.protocol.messages import Part, Reply

ASSIGNED, TARGETS = "assigned", "targets"
"""Private state: targets of the forget rows before the logit shift, and targets of both kinds after it."""


@client_step("score", TargetRule)
def score(context: ClientContext, settings: TargetRule) -> Reply:
    """Send the reconstruction error under h that only `outlier_quantile` of the retain rows exceed, and the
    number of retain rows that the original model takes for each class.
    """
    pool, retain, _ = context.teacher()
    h = _load_density_and_head(context, settings)
    with torch.no_grad():
        errors = laf_losses.reconstruction_error(h(retain), settings.error)
        logits = context.model.head(retain)
    predicted = torch.bincount(logits.argmax(1), minlength=logits.shape[1])
    counts = predicted.double() * (context.retain_count / max(len(pool), 1))
    threshold = float(errors.quantile(1 - settings.outlier_quantile)) if len(errors) else 0.0
    arrays = {Part.PREDICTED_COUNTS: {"predicted_counts": counts.cpu().numpy()}}
    return Reply(arrays, {"threshold": threshold, "rows": len(retain)}, _density_cost(settings, retain))


@client_step("assign_targets", TargetRule)
def assign_targets(context: ClientContext, settings: TargetRule) -> Reply:
    """Give each forget row a target without the outlier direction; send predicted-class counts of targets."""
    _, _, forget = context.teacher()
    h = _load_density_and_head(context, settings)
    targets, outlier = settings.targets(forget, h)
    with torch.no_grad():
        counts = laf_targets.predicted_counts(context.model.head(targets), outlier)
    context.state.put(ASSIGNED, {"forget": targets})
    numbers: Numbers = {"outlier": float(outlier.float().mean()), "rows": len(forget)}
    arrays = {Part.PREDICTED_COUNTS: {"predicted_counts": counts.double().cpu().numpy()}}
    return Reply(arrays, numbers, _density_cost(settings, forget))


def _load_density_and_head(context: ClientContext, settings: TargetRule) -> Density:
    h = context.density(settings, "h")
    load_weights(h, context.instruction.weights(Part.VAE))
    load_weights(context.model.head, context.instruction.weights(Part.HEAD))
    return h


def _density_cost(settings: TargetRule, rows: Tensor) -> Cost:
    return Cost(vae_passes=len(rows) if settings.density == "vae" else 0)


@client_step("apply_logit_shift", TargetRule)
def apply_logit_shift(context: ClientContext, settings: TargetRule) -> Reply:
    """Move all targets by the representation change that shifts the logits as the server says."""
    teacher = context.teacher()[1:]
    retain, forget = teacher
    if len(forget):
        forget = context.state.get(ASSIGNED)["forget"].to(context.device)
    head = context.model.head
    load_weights(head, context.instruction.weights(Part.HEAD))
    sent = as_tensors(context.instruction.weights(Part.SHIFT))
    shift, anchor = (sent[name].to(context.device) for name in ("shift", "anchor"))
    change = laf_targets.shift_of_representations(head, shift, anchor)
    targets = (retain + change, forget + change)
    context.state.put(TARGETS, dict(zip(("retain", "forget"), targets, strict=True)))
    numbers: Numbers = {"rows": len(retain) + len(forget)}
    for kind, target, before in zip(("retain", "forget"), targets, teacher, strict=True):
        if len(target):
            numbers[f"target_distance_{kind}"] = float(laf_losses.cosine_distance(target, before).mean())
    if len(retain):
        numbers["changed"] = _share_changed(head, teacher[0], targets[0])
    return Reply(numbers=numbers)


@torch.no_grad()
def _share_changed(head: nn.Module, before: Tensor, after: Tensor) -> float:
    """The share of rows whose predicted class differs between representations `before` and `after`."""
    return float((head(before).argmax(1) != head(after).argmax(1)).float().mean())


@client_step("align", Alignment)
def align(context: ClientContext, settings: Alignment) -> Reply:
    """Local steps of the extractor toward the targets."""
    load_weights(context.model.extractor, context.instruction.weights(Part.EXTRACTOR))
    pool = context.teacher()[0]
    targets = {k: v.to(context.device) for k, v in context.state.get(TARGETS).items()}
    retain, forget = context.rows(pool)
    kinds = (Targets(retain, targets["retain"]), Targets(forget, targets["forget"]))
    stream = context.stream("rows", context.instruction.round)
    numbers, cost = toward(context.model.extractor, kinds, settings, stream)
    numbers |= {"retain": len(retain), "forget": len(forget)}
    return Reply({Part.EXTRACTOR: weights_of(context.model.extractor)}, numbers, cost)


class Targets:
    """One kind of a client's rows and their targets [P, D]."""

    def __init__(self, rows: Rows, targets: Tensor) -> None:
        self.rows, self.targets = rows, targets


def toward(
    extractor: nn.Module, sides: tuple[Targets, Targets], settings: Alignment, stream: torch.Generator
) -> tuple[Numbers, Cost]:
    """Adam steps in place on the summed distances of both sides' batches to their targets.

    One forward pass for both kinds of rows. Gives the mean cosine distances of the last step.
    """
    extractor.eval()  # BatchNorm statistics stay those of the teacher
    parameters = list(extractor.parameters())
    device = parameters[0].device
    descent = Descent(torch.optim.Adam(parameters, lr=settings.lr, fused=True), extractor)
    passes, numbers = 0, Numbers()
    sizes = (len(sides[0].rows), len(sides[1].rows))
    for retain, forget in batches.pairs(sizes, settings.batch_size, settings.steps, stream):
        x = torch.cat([sides[0].rows.at(retain).x, sides[1].rows.at(forget).x])
        targets = torch.cat([sides[0].targets[retain], sides[1].targets[forget]])
        student = extractor(as_input(x, device))
        distance = settings.distances(student, targets)
        descent.step(distance.sum())
        passes += len(x)
        found = laf_losses.cosine_distance(student.detach(), targets).split([len(retain), len(forget)])
        names = ("distance_to_target_retain", "distance_to_target_forget")
        numbers = {name: float(d.mean()) for name, d in zip(names, found, strict=True) if len(d)}
    return numbers, Cost(gradient_passes=passes)
