"""The ClientApp: handlers that decode an instruction, call one phase, and encode the reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedlaf.client import batches, private_state
from fedlaf.client.context import AIMED, GOALS, LOGITS, OWN_VAE, TAUGHT, Visit
from fedlaf.client.runtime import ClientSpec
from fedlaf.client.steps import (
    densities,
    gradients,
    laf_published,
    local_objectives,
    projected_ascent,
    targets,
    teachers,
    training,
)
from fedlaf.core.cost import Cost
from fedlaf.core.memory import Peak
from fedlaf.core.seeding import torch_stream
from fedlaf.models.arrays import load_weights, weights_of
from fedlaf.objectives.classification import Fit
from fedlaf.objectives.logit_objectives import DistilBoth, Hold, NegGrad, Push, Shrink
from fedlaf.protocol.messages import Action, Part, Reply, encode_reply, settings_from_config


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
            answers = densities.represent_together(visits)
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
    return encode_reply(Reply(reply.arrays, {**reply.numbers, **told}), to)


def enrol(visit: Visit) -> tuple[Reply, Cost]:
    """Say who this node is and how many rows it holds."""
    return Reply(numbers={"client": visit.client, "rows": len(visit.data)}), Cost()


def fit(visit: Visit) -> tuple[Reply, Cost]:
    """Train the global model on the labelled rows that remain; what a request kept is dropped."""
    private_state.drop(visit.context, TAUGHT, OWN_VAE, AIMED, GOALS, LOGITS)
    settings = settings_from_config(Fit, visit.told.settings)
    load_weights(visit.model, visit.told.weights(Part.MODEL))
    rows = visit.data.labelled(but=visit.split[1])
    if settings.labels < 1:
        drawn = torch_stream(visit.told.seed, "labelled", visit.client)
        rows = rows.at(batches.pool(len(rows), round(settings.labels * len(rows)), drawn))
    stream = visit.stream("fit", visit.told.round)
    numbers, cost = training.fit(visit.model, rows, settings, stream)
    return Reply({Part.MODEL: weights_of(visit.model)}, numbers), cost


PHASES: dict[Action, Callable[[Visit], tuple[Reply, Cost]]] = {
    Action.ENROL: enrol,
    Action.FIT: fit,
    Action.TEACH: densities.teach,
    Action.REPRESENT: densities.represent,
    Action.REPRESENT_OWN: densities.represent_own,
    Action.SCORE: targets.score,
    Action.AIM: targets.aim,
    Action.SETTLE: targets.settle,
    Action.ALIGN: targets.align,
    Action.FORGET: laf_published.forget,
    Action.GRADIENT: laf_published.gradient,
    Action.ASCEND: projected_ascent.ascend,
    Action.RECALL: teachers.recall,
    Action.MISLEAD: teachers.mislead,
    Action.CROSS: teachers.cross,
    Action.NEGGRAD: partial(local_objectives.supervised, kind=NegGrad),
    Action.HOLD: partial(local_objectives.supervised, kind=Hold),
    Action.PUSH: partial(local_objectives.label_free, kind=Push),
    Action.DISTIL: partial(local_objectives.label_free, kind=DistilBoth),
    Action.SHRINK: partial(local_objectives.label_free, kind=Shrink),
    Action.OPPOSE: gradients.oppose,
    Action.UNROLL: gradients.unroll,
}
