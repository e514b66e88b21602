"""The ClientApp: decodes an instruction, calls the client step that it names, encodes the reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedlaf.client.context import ClientContext
from fedlaf.client.registry import STEPS, ClientStep, NoSettings, import_steps
from fedlaf.client.runtime import ClientSpec
from fedlaf.core.cost import Cost
from fedlaf.core.memory import Peak
from fedlaf.protocol.messages import Reply, encode_reply, settings_from_config


def make_client_app(spec: ClientSpec) -> ClientApp:
    """The ClientApp that plays any client of the federation that `spec` describes.

    Raises InvalidValue for a module of client steps that cannot be imported.
    """
    import_steps(spec.steps)
    app = ClientApp()
    app.query("enrol")(_handler(spec, ClientStep(NoSettings, enrol)))
    for name, step in STEPS.items():
        app.train(name)(_handler(spec, step))
    return app


def enrol(context: ClientContext, settings: object) -> Reply:
    """Say which client this node plays and how many rows it holds."""
    return Reply(numbers={"client": context.client, "rows": len(context.data)})


def _handler(spec: ClientSpec, step: ClientStep) -> Callable[[Message, Context], Message]:
    def handle(message: Message, flower_context: Context) -> Message:
        start = perf_counter()
        with Peak() as peak:
            context = ClientContext(spec, message, flower_context)
            settings: Any = settings_from_config(step.settings, context.instruction.settings)
            reply = step.run(context, settings)
        spent = reply.cost + context.access_cost() + peak.of_client
        spent += Cost(client_seconds=perf_counter() - start)
        return encode_reply(replace(reply, cost=spent), message)

    return handle
