"""LAF with a goal for every row, on a client: odd rows found, goals set, the student aligned with them.

No label anywhere: the rows are of the type that has none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedlaf.client import batches, private_state
from fedlaf.client.context import AIMED, GOALS, Visit
from fedlaf.core.cost import Cost
from fedlaf.core.types import Numbers
from fedlaf.data import Rows, as_input
from fedlaf.models import Density, Descent
from fedlaf.models.arrays import as_tensors, load_weights, weights_of
from fedlaf.objectives import laf_losses, laf_targets
from fedlaf.objectives.laf_targets import Aim, Align
from fedlaf.protocol.messages import Part, Reply, settings_from_config


def score(visit: Visit) -> tuple[Reply, Cost]:
    """Answer with the error under h that only `tail` of the remaining rows exceed, and with the
    number of remaining rows that the teacher takes for each class.
    """
    settings = settings_from_config(Aim, visit.told.settings)
    pool, retained, _ = visit.taught()
    h = _judges(visit, settings)
    with torch.no_grad():
        errors = laf_losses.reconstruction_error(h(retained), settings.error)
        logits = visit.model.head(retained)
    remaining = len(visit.data) - len(visit.split[1])
    taken = torch.bincount(logits.argmax(1), minlength=logits.shape[1])
    counts = taken.double() * (remaining / max(len(pool), 1))
    threshold = float(errors.quantile(1 - settings.tail)) if len(errors) else 0.0
    arrays = {Part.VOTES: {"votes": counts.cpu().numpy()}}
    return Reply(arrays, {"threshold": threshold, "rows": len(retained)}), _looked(settings, retained)


def aim(visit: Visit) -> tuple[Reply, Cost]:
    """Set the goals of the forgotten rows without their special part; answer with their votes."""
    settings = settings_from_config(Aim, visit.told.settings)
    _, _, forgotten = visit.taught()
    h = _judges(visit, settings)
    goals, odd = settings.goals(forgotten, h)
    with torch.no_grad():
        votes = laf_targets.votes(visit.model.head(goals), odd)
    private_state.keep(visit.context, AIMED, {"forgotten": goals})
    numbers: Numbers = {"odd": float(odd.float().mean()), "rows": len(forgotten)}
    arrays = {Part.VOTES: {"votes": votes.double().cpu().numpy()}}
    return Reply(arrays, numbers), _looked(settings, forgotten)


def _judges(visit: Visit, settings: Aim) -> Density:
    """Load the head that was sent; gives h."""
    h = visit.density(settings, "h")
    load_weights(h, visit.told.weights(Part.VAE))
    load_weights(visit.model.head, visit.told.weights(Part.HEAD))
    return h


def _looked(settings: Aim, rows: Tensor) -> Cost:
    return Cost(vae_passes=len(rows) if settings.density == "vae" else 0)


def settle(visit: Visit) -> tuple[Reply, Cost]:
    """Add the shift of classes to the goals of both kinds of rows, and keep them."""
    teacher = visit.taught()[1:]
    retained, forgotten = teacher
    if len(forgotten):
        forgotten = private_state.kept(visit.context, AIMED)["forgotten"].to(visit.device)
    load_weights(visit.model.head, visit.told.weights(Part.HEAD))
    sent = as_tensors(visit.told.weights(Part.SHIFT))
    told = {k: v.to(visit.device) for k, v in sent.items()}
    moved = laf_targets.shift_of_representations(visit.model.head, told["shift"], told["anchor"])
    goals = (retained + moved, forgotten + moved)
    private_state.keep(visit.context, GOALS, dict(zip(("retained", "forgotten"), goals, strict=True)))
    numbers: Numbers = {"rows": len(retained) + len(forgotten)}
    for name, goal, was in zip(("way_retained", "way_forgotten"), goals, teacher, strict=True):
        if len(goal):
            numbers[name] = float(laf_losses.cosine_distance(goal, was).mean())
    if len(retained):
        numbers["changed"] = _changed(visit.model.head, teacher[0], goals[0])
    return Reply(numbers=numbers), Cost()


@torch.no_grad()
def _changed(head: nn.Module, before: Tensor, after: Tensor) -> float:
    """The share of rows that the head takes for another class after than before."""
    return float((head(before).argmax(1) != head(after).argmax(1)).float().mean())


def align(visit: Visit) -> tuple[Reply, Cost]:
    """Local steps toward the goals over the extractor."""
    settings = settings_from_config(Align, visit.told.settings)
    load_weights(visit.model.extractor, visit.told.weights(Part.EXTRACTOR))
    pool = visit.taught()[0]
    kept = {k: v.to(visit.device) for k, v in private_state.kept(visit.context, GOALS).items()}
    rows = visit.rows(pool)
    sides = (Goals(rows[0], kept["retained"]), Goals(rows[1], kept["forgotten"]))
    stream = visit.stream("lead" if settings.leads else "rows", visit.told.round)
    numbers, cost = toward(visit.model.extractor, sides, settings, stream)
    numbers |= {"retained": len(rows[0]), "forgotten": len(rows[1])}
    return Reply({Part.EXTRACTOR: weights_of(visit.model.extractor)}, numbers), cost


class Goals:
    """One kind of a client's rows and their goals [P, D]."""

    def __init__(self, rows: Rows, goals: Tensor) -> None:
        self.rows, self.goals = rows, goals


def toward(
    extractor: nn.Module, sides: tuple[Goals, Goals], settings: Align, stream: torch.Generator
) -> tuple[Numbers, Cost]:
    """Adam steps in place on the summed distances of both sides' batches to their goals.

    One forward pass for both kinds of rows. Gives the mean cosine distances of the last step.
    """
    extractor.eval()  # BatchNorm statistics stay those of the teacher
    parameters = list(extractor.parameters())
    device = parameters[0].device
    descent = Descent(torch.optim.Adam(parameters, lr=settings.lr, fused=True), extractor)
    passes, numbers = 0, Numbers()
    sizes = (len(sides[0].rows), len(sides[1].rows))
    for near, far in batches.pairs(sizes, settings.batch_size, settings.steps, stream):
        x = torch.cat([sides[0].rows.at(near).x, sides[1].rows.at(far).x])
        goals = torch.cat([sides[0].goals[near], sides[1].goals[far]])
        student = extractor(as_input(x, device))
        distance = settings.distances(student, goals)
        descent.step(distance.sum())
        passes += len(x)
        found = laf_losses.cosine_distance(student.detach(), goals).split([len(near), len(far)])
        names = ("to_goal_retained", "to_goal_forgotten")
        numbers = {name: float(d.mean()) for name, d in zip(names, found, strict=True) if len(d)}
    return numbers, Cost(gradient_passes=passes)
