"""The ClientApp that Flower loads: what it plays is in the run's configuration, and in the node's own."""

from __future__ import annotations

from functools import lru_cache

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedlaf.client import make_client_app
from fedlaf.core.errors import require
from fedlaf.experiment.flower_app.composing import OVERRIDES, composed, parsed
from fedlaf.experiment.plan import spec_of

OF_A_NODE = ("data", "device")
"""Sections that a node may override for itself: where it finds the rows, and what it computes on."""


class ComposedApp(ClientApp):
    """A ClientApp that learns from a message's context what it plays."""

    def __call__(self, message: Message, context: Context) -> Message:
        """The answer to a message. Raises InvalidValue for overrides that cannot be used."""
        given, node = str(context.run_config.get(OVERRIDES, "")), context.node_config
        own, nodes = str(node.get(OVERRIDES, "")), node.get("num-partitions")
        return _client_app(given, own, None if nodes is None else int(nodes))(message, context)


app = ComposedApp()


@lru_cache(maxsize=2)
def _client_app(given: str, own: str, nodes: int | None) -> ClientApp:
    for override in parsed(own):
        section = (override.key_or_group or "").split(".")[0]
        require(section in OF_A_NODE, "overrides of a node", " or ".join(OF_A_NODE), override.input_line)
    return make_client_app(spec_of(composed(given, own, nodes=nodes)[0]))
