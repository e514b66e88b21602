"""LAF in closed form: forward passes, and sums over rows. No label anywhere, no row leaves.

A contribution of fewer rows than the floor is refused here, whatever the server asks.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from fedlaf.client import batches
from fedlaf.client.context import TEACHER, ClientContext
from fedlaf.client.registry import NoSettings, client_step
from fedlaf.client.steps.targets import ASSIGNED
from fedlaf.core.cost import Cost
from fedlaf.core.errors import require
from fedlaf.core.seeding import torch_stream
from fedlaf.data import Rows, as_input
from fedlaf.models import last_layer
from fedlaf.models.arrays import as_tensors, load_weights
from fedlaf.objectives import (
    ClosedForm,
    label_shift,
    laf_closed_form,
    laf_densities,
    laf_directions,
    laf_losses,
)
from fedlaf.objectives.laf_closed_form import PROJECTION
from fedlaf.objectives.laf_densities import Densities
from fedlaf.protocol.messages import Part, Reply

CHUNK = 256

FORGOTTEN = "closed_form_forget"
"""Private state: features of the forget rows."""


@client_step("laf_features", ClosedForm)
def laf_features(context: ClientContext, settings: ClosedForm) -> Reply:
    """Send sums over the retain rows in use: the gram matrices of their features and of their
    representations, these also by predicted class; and how many are predicted as each class, how surely.
    """
    context.state.clear()
    rows = context.data.inputs(context.absent_positions)
    pool = batches.pool(len(rows), settings.most_rows, context.stream("pool"))
    _check_floor(len(pool), settings)
    phi = _features(context, rows.at(pool))
    e = _representations(context, phi)
    if settings.density == "vae" or settings.keep_targets:
        context.state.put(TEACHER, {"pool": pool, "retain": e.float(), "forget": e[:0].float()})
    posteriors = _posteriors(context, e)
    by_class, of_classes = laf_densities.class_sums(
        e, posteriors.argmax(1), posteriors.shape[1], settings.floor
    )
    sums = {
        "features": laf_closed_form.gram(_projected(context, settings, phi)),
        "representations": laf_closed_form.gram(e),
        "classes": by_class,
        "class_representations": of_classes,
        "sureness": label_shift.sureness(posteriors),
    }
    return _reply(sums, len(pool), context.retain_count / len(pool), Cost(forward_passes=len(pool)))


@client_step("laf_thresholds", ClosedForm)
def laf_thresholds(context: ClientContext, settings: ClosedForm) -> Reply:
    """Send how the retain rows' reconstruction errors under a VAE for h are distributed."""
    e = context.state.get(TEACHER)["retain"].to(context.device)
    counts = laf_closed_form.error_counts(_errors(context, settings, e).cpu())
    return _reply({"errors": counts}, len(e), context.retain_count / len(e))


@client_step("laf_axes", ClosedForm)
def laf_axes(context: ClientContext, settings: ClosedForm) -> Reply:
    """Send the gram matrix of the forget rows' deviations within predicted classes."""
    phi, passes = _forgotten(context, settings, keep=True)
    found = laf_closed_form.gram(_place(context, settings, _representations(context, phi)))
    return _reply({"deviations": found}, len(phi), cost=Cost(forward_passes=passes))


@client_step("laf_marks", ClosedForm)
def laf_marks(context: ClientContext, settings: ClosedForm) -> Reply:
    """Send the sums of the forget rows' representations by the side of the axes that they are out on."""
    phi, passes = _forgotten(context, settings, keep=True)
    e = _representations(context, phi)
    units, place = _densities(context).units(e), _place(context, settings, e)
    sums = _kind_sums(settings, units, place, _sent(context, "sides"))
    return _reply({"kinds": sums}, len(phi), cost=Cost(forward_passes=passes))


@client_step("laf_targets", ClosedForm)
def laf_targets(context: ClientContext, settings: ClosedForm) -> Reply:
    """Give each forget row a target; send what the solution needs of them, and what they are predicted as.

    The directions that marked rows lose are the server's; without any they are those of this client's rows.
    """
    phi, passes = _forgotten(context, settings)
    e = _representations(context, phi)
    h = _densities(context)
    units, place = h.units(e), _place(context, settings, e)
    sides, directions = _sent(context, "sides"), _sent(context, "directions")
    if directions is None:
        sides, directions = _own_directions(settings, units, place)
    kind, count = _kinds(settings, place, sides)
    marked = kind < count
    if int(marked.sum()) < settings.floor:
        marked = torch.zeros_like(marked)
    change = laf_directions.target_changes(units, marked, directions, h, clip=settings.clip)
    if settings.keep_targets:
        _keep(context, settings, e, e + change)
    used = _projected(context, settings, phi)
    sums = {
        "features": laf_closed_form.gram(used),
        "cross": change.T @ laf_closed_form.with_one(used),
        "sureness": label_shift.sureness(*(_posteriors(context, at) for at in (e, e + change))),
    }
    reply = _reply(sums, len(phi), cost=Cost(forward_passes=passes))
    reply.numbers["marked"] = float(marked.double().mean())  # type: ignore[index]
    return reply


@client_step("laf_label_counts", NoSettings)
def laf_label_counts(context: ClientContext, settings: NoSettings) -> Reply:
    """Send how many retain and forget rows have each label.

    It is what a client notes while it trains; here it is counted when it is asked for, as a training may be
    taken up from an earlier run. No input is read.
    """
    del settings
    classes = int(context.instruction.settings["classes"])
    labels = context.data.labelled().y
    forget = torch.zeros(len(labels), dtype=torch.bool)
    gone = forget.clone()
    forget[list(context.forget_positions)] = True
    gone[list(context.absent_positions)] = True
    kinds = (labels[~gone], labels[forget])
    counts = torch.stack([torch.bincount(kind, minlength=classes) for kind in kinds])
    return _reply({"labels": counts}, int(counts.sum()))


def _reply(sums: dict[str, Tensor], rows: int, scale: float = 1.0, cost: Cost | None = None) -> Reply:
    arrays = {name: (scale * found).double().cpu().numpy() for name, found in sums.items()}
    return Reply({Part.STATISTICS: arrays}, {"rows": float(rows)}, cost or Cost())


def _check_floor(rows: int, settings: ClosedForm) -> None:
    expected = f"at most the {rows} rows behind this client's contribution"
    require(rows >= settings.floor, "min_rows", expected, settings.min_rows)


def _forgotten(context: ClientContext, settings: ClosedForm, *, keep: bool = False) -> tuple[Tensor, int]:
    """Features of the forget rows, and how many passes they took: none where an earlier phase kept them."""
    _check_floor(len(context.forget_positions), settings)
    if {"sides", "directions"} & set(context.instruction.weights(Part.WHITENING)):
        load_weights(context.model.extractor, context.instruction.weights(Part.EXTRACTOR))
        return context.state.get(FORGOTTEN)["phi"].to(context.device), 0
    phi = _features(context, context.data.inputs_at(context.forget_positions))
    if keep:
        context.state.put(FORGOTTEN, {"phi": phi})
    return phi, len(phi)


def _features(context: ClientContext, rows: Rows) -> Tensor:
    extractor = context.model.extractor
    load_weights(extractor, context.instruction.weights(Part.EXTRACTOR))
    chunks = [as_input(chunk, context.device) for chunk in rows.x.split(CHUNK)]
    return torch.cat([last_layer.features(extractor, chunk) for chunk in chunks])


@torch.no_grad()
def _representations(context: ClientContext, phi: Tensor) -> Tensor:
    """E = W phi + b in float64: the sums must not depend on how a network rounds."""
    last = last_layer.last_linear(context.model.extractor)
    if last is None:
        raise LookupError("the extractor does not end in a linear layer")
    return phi.double() @ last.weight.double().T + last.bias.double()


def _projected(context: ClientContext, settings: ClosedForm, phi: Tensor) -> Tensor:
    told = context.instruction
    matrix = settings.projected(phi.shape[1], torch_stream(told.seed, told.stage, PROJECTION))
    return phi if matrix is None else phi.double() @ matrix.to(phi.device)


@torch.no_grad()
def _errors(context: ClientContext, settings: ClosedForm, e: Tensor) -> Tensor:
    """Reconstruction errors [N] of the VAE."""
    h = context.vae(settings, "h")
    load_weights(h, context.instruction.weights(Part.VAE))
    return laf_losses.reconstruction_error(h(e.float()), settings.error)


def _place(context: ClientContext, settings: ClosedForm, e: Tensor) -> Tensor:
    """What marks are told by: whitened deviations [N, D] from the means of the predicted classes, or a VAE's
    errors [N].
    """
    if settings.density == "vae":
        return _errors(context, settings, e)
    return _densities(context).within(e, _posteriors(context, e).argmax(1))


def _kinds(settings: ClosedForm, place: Tensor, sides: Tensor | None) -> tuple[Tensor, int]:
    """The kind [N] of each row, and how many there are; a VAE tells one, its outliers."""
    if settings.density == "vae":
        return (~settings.outlier(place)).long(), 1
    if sides is None:
        raise LookupError("no sides of axes were sent")
    return laf_directions.kinds(place, sides, settings.clip), len(sides)


def _kind_sums(settings: ClosedForm, units: Tensor, place: Tensor, sides: Tensor | None) -> Tensor:
    kind, count = _kinds(settings, place, sides)
    return laf_directions.kind_sums(units, kind, count, settings.floor)


def _own_directions(settings: ClosedForm, units: Tensor, place: Tensor) -> tuple[Tensor | None, Tensor]:
    """The sides and the directions of this client's marked rows, as the server finds those of all clients."""
    gaussian = settings.density == "gaussian"
    sides = laf_directions.axes(laf_closed_form.gram(place)) if gaussian else None
    marks, directions = laf_directions.directions(_kind_sums(settings, units, place, sides), settings)
    return None if sides is None else sides[marks], directions


def _keep(context: ClientContext, settings: ClosedForm, e: Tensor, targets: Tensor) -> None:
    """Keep forget rows' representations and targets for the steps that follow the solution."""
    nothing = {"pool": torch.arange(0), "retain": e[:0].float()}
    asked_before = context.retain_count >= settings.floor
    held = context.state.get(TEACHER) if asked_before else nothing
    context.state.put(TEACHER, {**held, "forget": e.float()})
    context.state.put(ASSIGNED, {"forget": targets.float()})


@torch.no_grad()
def _posteriors(context: ClientContext, e: Tensor) -> Tensor:
    load_weights(context.model.head, context.instruction.weights(Part.HEAD))
    logits: Tensor = deepcopy(context.model.head).double()(e)
    return logits.softmax(1)


def _sent(context: ClientContext, name: str) -> Tensor | None:
    sent = as_tensors(context.instruction.weights(Part.WHITENING))
    return sent[name].to(context.device) if name in sent else None


def _densities(context: ClientContext) -> Densities:
    sent = as_tensors(context.instruction.weights(Part.WHITENING))
    return Densities(*(sent[name].to(context.device) for name in Densities._fields))
