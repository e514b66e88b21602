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
from fedlaf.objectives import ClosedForm, label_shift, laf_closed_form, laf_directions, laf_losses
from fedlaf.objectives.laf_closed_form import PROJECTION, Whitening
from fedlaf.protocol.messages import Part, Reply

CHUNK = 256

RETAINED, FORGOTTEN = "closed_form_retain", "closed_form_forget"
"""Private state: representations of the retain rows in use; features of the forget rows."""


@client_step("laf_features", ClosedForm)
def laf_features(context: ClientContext, settings: ClosedForm) -> Reply:
    """Send the gram matrices of the retain rows' features and representations; keep the latter."""
    context.state.clear()
    rows = context.data.inputs(context.absent_positions)
    pool = batches.pool(len(rows), settings.most_rows, context.stream("pool"))
    _check_floor(len(pool), settings)
    phi = _features(context, rows.at(pool))
    e = _representations(context, phi)
    context.state.put(RETAINED, {"e": e})
    if settings.density == "vae" or settings.keep_targets:
        context.state.put(TEACHER, {"pool": pool, "retain": e.float(), "forget": e[:0].float()})
    scale = context.retain_count / len(pool)
    used = _projected(context, settings, phi)
    sums = {"features": laf_closed_form.gram(used), "representations": laf_closed_form.gram(e)}
    return _reply(sums, len(pool), scale, Cost(forward_passes=len(pool)))


@client_step("laf_thresholds", ClosedForm)
def laf_thresholds(context: ClientContext, settings: ClosedForm) -> Reply:
    """Send how the retain rows' errors under h are distributed, and their posteriors by cell."""
    e = context.state.get(RETAINED)["e"].to(context.device)
    found = _errors(context, settings, e)
    sums = {
        "errors": laf_closed_form.error_counts(found.cpu()),
        "posteriors": label_shift.posterior_cells(_posteriors(context, e), settings.floor),
    }
    return _reply(sums, len(e), context.retain_count / len(e))


@client_step("laf_direction", ClosedForm)
def laf_direction(context: ClientContext, settings: ClosedForm) -> Reply:
    """Send the sums of the outliers among the forget rows, and of the others, in whitened units."""
    phi, passes = _forgotten(context, settings)
    context.state.put(FORGOTTEN, {"phi": phi})
    units, outlier, ordinary = _outliers(context, settings, _representations(context, phi))
    sums = laf_directions.outlier_sums(units, outlier, ordinary)
    gram = laf_closed_form.gram(units[outlier])
    sent = {"outliers": _without_few(sums, settings), "gram": gram * (gram[-1] >= settings.floor)}
    return _reply(sent, len(phi), cost=Cost(forward_passes=passes))


@client_step("laf_marks", ClosedForm)
def laf_marks(context: ClientContext, settings: ClosedForm) -> Reply:
    """Send how many forget rows would still be outliers without the direction, and sums of both kinds."""
    phi, _ = _forgotten(context, settings)
    e = _representations(context, phi)
    sent = as_tensors(context.instruction.weights(Part.WHITENING))
    one, where = (sent[name].to(context.device) for name in ("direction", "division"))
    units, outlier, _ = _outliers(context, settings, e)
    left = _left(context, settings, e, units, outlier, one)
    sums = laf_directions.divided_sums(units, outlier, one, where, settings)
    return _reply({"left": left, "outliers": sums}, len(phi))


@client_step("laf_targets", ClosedForm)
def laf_targets(context: ClientContext, settings: ClosedForm) -> Reply:
    """Give each forget row a target; send what the solution needs of them, and their posteriors by cell.

    The directions that outliers lose are the server's; without any they are those of this client's rows.
    """
    phi, passes = _forgotten(context, settings)
    h = _whitening(context)
    e = _representations(context, phi)
    units, outlier, ordinary = _outliers(context, settings, e)
    sent = as_tensors(context.instruction.weights(Part.WHITENING))
    if "directions" in sent:
        directions = sent["directions"].to(context.device)
    else:
        directions = _own_directions(context, settings, e, units, outlier, ordinary)
    change = laf_directions.target_changes(units, outlier, directions, h, clip=settings.clip)
    if settings.keep_targets:
        _keep(context, settings, e, e + change)
    used = _projected(context, settings, phi)
    sums = {
        "features": laf_closed_form.gram(used),
        "cross": change.T @ laf_closed_form.with_one(used),
        "posteriors": label_shift.posterior_cells(_posteriors(context, e + change), settings.floor),
    }
    reply = _reply(sums, len(phi), cost=Cost(forward_passes=passes))
    reply.numbers["outlier"] = float(outlier.double().mean())  # type: ignore[index]
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


def _forgotten(context: ClientContext, settings: ClosedForm) -> tuple[Tensor, int]:
    """Features of the forget rows, and how many passes they took: none where an earlier phase kept them."""
    _check_floor(len(context.forget_positions), settings)
    if {"direction", "directions"} & set(context.instruction.weights(Part.WHITENING)):
        phi = context.state.get(FORGOTTEN)["phi"].to(context.device)
        load_weights(context.model.extractor, context.instruction.weights(Part.EXTRACTOR))
        return phi, 0
    phi = _features(context, context.data.inputs_at(context.forget_positions))
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
    """Errors [N] under h: reconstruction errors of the VAE, or whitened distances."""
    if settings.density == "gaussian":
        return laf_closed_form.errors(_whitening(context).units(e))
    h = context.vae(settings, "h")
    load_weights(h, context.instruction.weights(Part.VAE))
    return laf_losses.reconstruction_error(h(e.float()), settings.error)


def _outliers(context: ClientContext, settings: ClosedForm, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The forget rows in whitened units [N, D], and which of them [N] are outliers, which ordinary."""
    found = _errors(context, settings, e)
    return _whitening(context).units(e), settings.outlier(found), settings.ordinary(found)


def _left(
    context: ClientContext, settings: ClosedForm, e: Tensor, units: Tensor, outlier: Tensor, one: Tensor
) -> Tensor:
    """How many rows [1] would still be outliers without the direction."""
    change = laf_directions.target_changes(units, outlier, one, _whitening(context), clip=settings.clip)
    return settings.outlier(_errors(context, settings, e + change)).double().sum().reshape(1)


def _own_directions(
    context: ClientContext, settings: ClosedForm, e: Tensor, units: Tensor, outlier: Tensor, ordinary: Tensor
) -> Tensor:
    """The directions of this client's outliers [K, D], as the server finds those of all clients."""
    sums = laf_directions.outlier_sums(units, outlier, ordinary).cpu()
    one = laf_directions.outlier_direction(sums, len(e), settings).to(context.device)
    if len(one) == 0:
        return one
    where = laf_directions.division(laf_closed_form.gram(units[outlier]).cpu()).to(context.device)
    divided = laf_directions.divided_sums(units, outlier, one, where, settings)
    left = float(_left(context, settings, e, units, outlier, one))
    return laf_directions.final_directions(divided.cpu(), left, len(e), settings).to(context.device)


def _without_few(sums: Tensor, settings: ClosedForm) -> Tensor:
    """Sums [K, D + 1] without those of fewer rows than the floor."""
    return sums.masked_fill(sums[:, -1:] < settings.floor, 0.0)


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


def _whitening(context: ClientContext) -> Whitening:
    sent = as_tensors(context.instruction.weights(Part.WHITENING))
    return Whitening(sent["mean"].to(context.device), sent["root"].to(context.device))
