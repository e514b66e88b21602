"""The ClientApp: handlers that decode an instruction, call one phase, and encode the reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedlaf import wire
from fedlaf.client import (
    aiming,
    ascending,
    forgetting,
    opposing,
    recalling,
    representing,
    stacked,
    store,
    training,
    unlearning,
)
from fedlaf.client.forgetting import Side, Task
from fedlaf.client.stacked import Lesson
from fedlaf.client.store import ClientSpec
from fedlaf.client.visit import AIMED, GOALS, LOGITS, OWN_VAE, TAUGHT, Visit
from fedlaf.cost import Cost
from fedlaf.logit_objectives import DistilBoth, Hold, NegGrad, Push, Shrink
from fedlaf.memory import Peak
from fedlaf.models import Gaussian
from fedlaf.objectives import Fit, Forget, Represent
from fedlaf.seeding import torch_stream
from fedlaf.types import Numbers
from fedlaf.wire import Action, Part, Reply


class Clients(ClientApp):
    """A ClientApp that can also answer the messages of several clients together, in the actions `stacks`."""

    stacks = frozenset({Action.REPRESENT})

    def __init__(self, spec: ClientSpec) -> None:
        super().__init__()
        self.spec = spec

    def together(self, messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message]:
        """Their answers, computed as one stack: those that each would give alone, to rounding."""
        start = perf_counter()
        visits = [Visit(self.spec, *given) for given in zip(messages, contexts, strict=True)]
        with Peak() as peak:
            answers = represent_together(visits)
        each = peak.of_client + Cost(client_seconds=(perf_counter() - start) / len(messages))
        return [
            _encoded(visit, reply, cost + each, to=to)
            for visit, (reply, cost), to in zip(visits, answers, messages, strict=True)
        ]


def make_client_app(spec: ClientSpec) -> Clients:
    """The ClientApp that plays any client of the federation that `spec` describes."""
    app = Clients(spec)
    for action, phase in PHASES.items():
        category, name = action.split(".")
        register: Any = getattr(app, category)(name)
        register(_handler(spec, phase))
    return app


def _handler(
    spec: ClientSpec, phase: Callable[[Visit], tuple[Reply, Cost]]
) -> Callable[[Message, Context], Message]:
    def handle(message: Message, context: Context) -> Message:
        start = perf_counter()
        with Peak() as peak:
            visit = Visit(spec, message, context)
            reply, cost = phase(visit)
        took = peak.of_client + Cost(client_seconds=perf_counter() - start)
        return _encoded(visit, reply, cost + took, to=message)

    return handle


def _encoded(visit: Visit, reply: Reply, cost: Cost, *, to: Message) -> Message:
    spent = cost + visit.rows_read()
    told = {name: value for name, value in spent.numbers().items() if value}
    return wire.encode_reply(Reply(reply.arrays, {**reply.numbers, **told}), to)


def enrol(visit: Visit) -> tuple[Reply, Cost]:
    """Say who this node is and how many rows it holds."""
    return Reply(numbers={"client": visit.client, "rows": len(visit.data)}), Cost()


def fit(visit: Visit) -> tuple[Reply, Cost]:
    """Train the global model on the labelled rows that remain; what a request kept is dropped."""
    store.drop(visit.context, TAUGHT, OWN_VAE, AIMED, GOALS, LOGITS)
    settings = wire.settings_from_config(Fit, visit.told.settings)
    store.load(visit.model, visit.told.weights(Part.MODEL))
    rows = visit.data.labelled(but=visit.split[1])
    if settings.labels < 1:
        drawn = torch_stream(visit.told.seed, "labelled", visit.client)
        rows = rows.at(_pool(len(rows), round(settings.labels * len(rows)), drawn))
    stream = visit.stream("fit", visit.told.round)
    numbers, cost = training.fit(visit.model, rows, settings, stream)
    return Reply({Part.MODEL: store.weights_of(visit.model)}, numbers), cost


def teach(visit: Visit) -> tuple[Reply, Cost]:
    """Keep the teacher's representations of both kinds of rows; answer with their moments."""
    settings = wire.settings_from_config(Represent, visit.told.settings)
    store.drop(visit.context, OWN_VAE, AIMED, GOALS)
    store.load(visit.model.extractor, visit.told.weights(Part.EXTRACTOR))
    remaining = visit.data.inputs(visit.split[1])
    pool = _pool(len(remaining), settings.most_rows, visit.stream("pool"))
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


def forget(visit: Visit) -> tuple[Reply, Cost]:
    """Local steps of both losses of LAF over the extractor."""
    settings = wire.settings_from_config(Forget, visit.told.settings)
    task = _task(visit, settings)
    number = visit.told.round + int(visit.told.settings.get("after", 0))
    rows, noise = (visit.stream(name, number) for name in ("rows", "noise"))
    numbers, cost = forgetting.forget(task, settings, rows, noise)
    numbers |= {"retained": len(task.retained.rows), "forgotten": len(task.forgotten.rows)}
    return Reply({Part.EXTRACTOR: store.weights_of(task.extractor)}, numbers), cost


def gradient(visit: Visit) -> tuple[Reply, Cost]:
    """Gradients of one of the losses on this step's batches, for the optimiser on the server."""
    settings = wire.settings_from_config(Forget, visit.told.settings)
    loss, step = str(visit.told.settings["loss"]), int(visit.told.settings["step"])
    rows, noise = visit.stream("rows", 1), visit.stream("noise", step)
    found, cost = forgetting.gradients(_task(visit, settings), settings, loss, step, rows, noise)
    arrays = {Part.RETAINED_GRADIENT: _arrays(found.retained)}
    if found.forgotten is not None:
        arrays[Part.FORGOTTEN_GRADIENT] = _arrays(found.forgotten)
    retained, forgotten = found.rows
    numbers: Numbers = {"mass": found.mass, "retained": retained, "forgotten": forgotten}
    return Reply(arrays, numbers), cost


def _task(visit: Visit, settings: Forget) -> Task:
    store.load(visit.model.extractor, visit.told.weights(Part.EXTRACTOR))
    pool, retained, forgotten = visit.taught()
    h = visit.density(settings, "h")
    if Part.VAE in visit.told.arrays:  # alignment alone needs none
        store.load(h, visit.told.weights(Part.VAE))
    h_f = h
    if len(forgotten):
        h_f = visit.density(settings, "h_f")
        shared = Part.FORGOTTEN_VAE in visit.told.arrays
        own = visit.told.weights(Part.FORGOTTEN_VAE) if shared else None
        h_f.load_state_dict(store.kept(visit.context, OWN_VAE) if own is None else store.tensors(own))
    rows = visit.rows(pool)
    return Task(
        visit.model.extractor,
        h,
        h_f,
        Side(rows[0], retained, torch.ones(len(retained), device=visit.device)),
        Side(rows[1], forgotten, settings.weights(forgotten, h)),
    )


def _pool(rows: int, most: int | None, stream: torch.Generator) -> torch.Tensor:
    if most is None or most >= rows:
        return torch.arange(rows)
    return torch.randperm(rows, generator=stream)[:most].sort().values


def _learned(retained: torch.Tensor, forgotten: torch.Tensor, settings: Represent) -> torch.Tensor:
    return retained if settings.rows == "retained" else torch.cat([retained, forgotten])


def _arrays(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {k: v.detach().cpu().contiguous().numpy() for k, v in tensors.items()}


PHASES: dict[Action, Callable[[Visit], tuple[Reply, Cost]]] = {
    Action.ENROL: enrol,
    Action.FIT: fit,
    Action.TEACH: teach,
    Action.REPRESENT: represent,
    Action.REPRESENT_OWN: represent_own,
    Action.SCORE: aiming.score,
    Action.AIM: aiming.aim,
    Action.SETTLE: aiming.settle,
    Action.ALIGN: aiming.align,
    Action.FORGET: forget,
    Action.GRADIENT: gradient,
    Action.ASCEND: ascending.ascend,
    Action.RECALL: recalling.recall,
    Action.MISLEAD: recalling.mislead,
    Action.CROSS: recalling.cross,
    Action.NEGGRAD: partial(unlearning.supervised, kind=NegGrad),
    Action.HOLD: partial(unlearning.supervised, kind=Hold),
    Action.PUSH: partial(unlearning.label_free, kind=Push),
    Action.DISTIL: partial(unlearning.label_free, kind=DistilBoth),
    Action.SHRINK: partial(unlearning.label_free, kind=Shrink),
    Action.OPPOSE: opposing.oppose,
    Action.UNROLL: opposing.unroll,
}
