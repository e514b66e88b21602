"""The forget phase on a client: both losses of LAF over the extractor, without a label.

The types say it: everything here takes `Rows`, which have none. The teacher's representations
are given, never recomputed; remaining and forgotten rows share one forward pass a loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlaf.client import batches
from fedlaf.client.batches import Pair
from fedlaf.core.cost import Cost
from fedlaf.core.types import Numbers
from fedlaf.data import Rows, as_input
from fedlaf.models import Density, Descent, gradients_of
from fedlaf.objectives import laf_losses
from fedlaf.objectives.laf import Forget, Noise


@dataclass(frozen=True)
class Side:
    """One kind of a client's rows, the teacher's representations [P, D] of them, their weights [P]."""

    rows: Rows
    teacher: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Task:
    """What a client forgets with: the student, the two densities, and its remaining and forgotten side."""

    extractor: nn.Module
    h: Density
    h_f: Density
    retain: Side
    forget: Side


def forget(
    task: Task, settings: Forget, rows: torch.Generator, noise: torch.Generator
) -> tuple[Numbers, Cost]:
    """Take the settings' steps in place: Adam on L_UE, then Adam on L_RA, or Adam on their sum.

    `rows` is the stream that draws batches, `noise` the one of the VAEs' latent noise. Gives the
    losses of the last step and the cost.
    """
    parameters = _frozen_but_student(task)
    device = parameters[0].device
    unlearning, alignment = (
        Descent(torch.optim.Adam(parameters, lr=rate, fused=True), task.extractor)
        for rate in (settings.lr_unlearning, settings.lr_alignment)
    )
    drawn = Noise(settings.latent, noise if settings.sampled else None, device)
    numbers: Numbers = {}
    passes = 0
    for batch in _draw(task, settings, settings.steps, rows):
        if settings.updates == "joint":
            loss, distances = _joint(task, settings, batch, drawn)
            numbers |= {"joint": _step(alignment, loss), **distances}
            passes += len(batch[0]) + len(batch[1])
            continue
        if settings.lr_unlearning > 0:
            numbers["unlearning"] = _step(unlearning, _unlearning(task, settings, batch, drawn))
            passes += len(batch[0]) + len(batch[1])
        if settings.lr_alignment > 0:
            retain, forget = _distances(task, batch)
            weights = task.forget.weights[batch[1]]
            numbers["alignment"] = _step(alignment, settings.alignment(retain, forget, weights))
            numbers |= _mean_distances(retain, forget)
            passes += len(batch[0]) + len(batch[1])
    return numbers, Cost(gradient_passes=passes)


@dataclass(frozen=True)
class Gradients:
    """Gradients of one loss over a client's batch, for the optimiser on the server.

    `retain` is that of the remaining rows' term (for L_UE: of both terms). L_RA couples the
    forgotten rows of all clients inside a logarithm, so `forget` is the gradient of
    `mass` = sum_j w_j exp(d_j / tau), and the server divides the sums of both.
    """

    retain: dict[str, Tensor]
    forget: dict[str, Tensor] | None
    mass: float
    rows: tuple[int, int]


def gradients(
    task: Task, settings: Forget, loss: str, step: int, rows: torch.Generator, noise: torch.Generator
) -> tuple[Gradients, Cost]:
    """Gradients of `unlearning` or `alignment` on the batches that `forget` would draw at `step`."""
    parameters = _frozen_but_student(task)
    batch = list(_draw(task, settings, step + 1, rows))[-1]
    counts = (len(batch[0]), len(batch[1]))
    cost = Cost(gradient_passes=sum(counts))
    if loss == "unlearning":
        drawn = Noise(settings.latent, noise if settings.sampled else None, parameters[0].device)
        whole = _unlearning(task, settings, batch, drawn)
        return Gradients(gradients_of(whole, task.extractor), None, 0.0, counts), cost
    retain, forget = _distances(task, batch)
    weights = task.forget.weights[batch[1]]
    mass = (weights * torch.exp(forget / settings.temperature)).sum()
    of_mass = gradients_of(mass, task.extractor, again=True) if counts[1] else None
    of_retain = gradients_of(retain.sum(), task.extractor)
    return Gradients(of_retain, of_mass, float(mass.detach()), counts), cost


def _frozen_but_student(task: Task) -> list[nn.Parameter]:
    # Evaluation mode: BatchNorm statistics stay those of the teacher. No gradient into the VAEs.
    task.extractor.eval()
    for vae in (task.h, task.h_f):
        vae.eval().requires_grad_(False)
    return list(task.extractor.parameters())


def _draw(task: Task, settings: Forget, count: int, stream: torch.Generator) -> Iterator[Pair]:
    forget = len(task.forget.rows) if settings.sides == "both" else 0
    return batches.pairs((len(task.retain.rows), forget), settings.batch_size, count, stream)


def _student(task: Task, batch: Pair) -> Pair:
    x = torch.cat([task.retain.rows.at(batch[0]).x, task.forget.rows.at(batch[1]).x])
    device = next(task.extractor.parameters()).device
    both = task.extractor(as_input(x, device))
    return both[: len(batch[0])], both[len(batch[0]) :]


def _joint(task: Task, settings: Forget, batch: Pair, noise: Noise) -> tuple[Tensor, Numbers]:
    """L_UE + L_RA from one forward pass."""
    student = _student(task, batch)
    retain, forget = _apart(task, batch, student)
    weights = task.forget.weights[batch[1]]
    unlearning = settings.unlearning(*student, weights, task.h, task.h_f, noise)
    return unlearning + settings.alignment(retain, forget, weights), _mean_distances(retain, forget)


def _unlearning(task: Task, settings: Forget, batch: Pair, noise: Noise) -> Tensor:
    weights = task.forget.weights[batch[1]]
    return settings.unlearning(*_student(task, batch), weights, task.h, task.h_f, noise)


def _distances(task: Task, batch: Pair) -> Pair:
    return _apart(task, batch, _student(task, batch))


def _apart(task: Task, batch: Pair, student: Pair) -> Pair:
    teacher = (task.retain.teacher[batch[0]], task.forget.teacher[batch[1]])
    retain, forget = (laf_losses.cosine_distance(s, t) for s, t in zip(student, teacher, strict=True))
    return retain, forget


def _mean_distances(retain: Tensor, forget: Tensor) -> Numbers:
    """How far both kinds of rows have moved: what tells forgetting from ruin, without a label."""
    pairs = (("distance_retain", retain), ("distance_forget", forget))
    return {name: float(d.detach().mean()) for name, d in pairs if len(d)}


def _step(descent: Descent, loss: Tensor) -> float:
    descent.step(loss)
    return float(loss.detach())
