"""A Ray worker: one process that plays any client, with model and data resident."""

from __future__ import annotations

import gc
import os
from typing import Any

from flwr.app import ArrayRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedlaf.protocol.messages import requested_mean
from fedlaf.protocol.replies import PartialSum
from fedlaf.simulation import flower_compat
from fedlaf.simulation.flower_compat import FIRST_NODE
from fedlaf.simulation.grid import CLIENT_FAILED, new_context, turn


class Worker:
    """One process that plays any client."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        flower_compat.quiet()
        flower_compat.identify(run_id=1)

    def play(self, app: ClientApp, clients: int) -> None:
        """Play the clients of `app` from now on."""
        self.app, self.clients = app, clients
        # What is there now stays: the collector need not look through all of torch again and again.
        gc.collect()
        gc.freeze()

    def process(self) -> int:
        """The id of this worker's process."""
        return os.getpid()

    def turn(
        self, message: Message, state: RecordDict | None, names: list[str], *shared: ArrayRecord
    ) -> tuple[Message, RecordDict]:
        """The client's answer and its state afterwards; `shared` are the arrays called `names`."""
        context = self._told(message, state, names, shared)
        reply = turn(self.app, message, context)
        return reply, context.state

    def share(
        self,
        messages: list[Message],
        nodes: list[int],
        names: list[str],
        *given: Any,
    ) -> tuple[list[Message], dict[int, RecordDict]]:
        """Answers of several clients, and the states that they leave. Where only a mean is needed, answers
        come without their arrays, and one brings the sum. `given` are the arrays called `names`, then the
        states of `nodes`.
        """
        shared = given[: len(names)]
        states = dict(zip(nodes, given[len(names) :], strict=True))
        asked = requested_mean(messages[0])
        summing = None if asked is None else PartialSum(asked, shared[names.index(asked.part)])
        replies, kept = [], {}
        for message in messages:
            node = message.metadata.dst_node_id
            answer, state = self.turn(message, states.get(node), names, *shared)
            fault = None if answer.has_error() or summing is None else summing.add(answer)
            reply = answer if fault is None else Message(Error(CLIENT_FAILED, fault), reply_to=message)
            replies.append(reply)
            if not reply.has_error() and (state or node in states):
                kept[node] = state
        good = [reply for reply in replies if not reply.has_error()]
        if good and summing is not None:
            summing.attach(good[0])
        return replies, kept

    def _told(self, message: Message, state: RecordDict | None, names: list[str], shared: Any) -> Context:
        """Completes a message with its arrays; gives the client's context."""
        records: dict[str, Any] = {**dict(zip(names, shared, strict=True)), **dict(message.content)}
        message.content = RecordDict(records)
        context = new_context(message.metadata.dst_node_id - FIRST_NODE, self.clients)
        if state is not None:
            context.state = state
        return context
