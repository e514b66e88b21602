"""A Ray worker: one process that plays any client, with model and data resident."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

from flwr.app import ArrayRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedlaf.protocol.messages import requested_mean
from fedlaf.protocol.replies import Summing
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
        summing = None if asked is None else Summing(asked, shared[names.index(asked.part)])
        replies, kept = [], {}
        before = [states.get(message.metadata.dst_node_id) for message in messages]
        answers = self._turns(messages, before, names, shared)
        for message, (answer, state) in zip(messages, answers, strict=True):
            fault = None if answer.has_error() or summing is None else summing.lighten(answer)
            reply = answer if fault is None else Message(Error(CLIENT_FAILED, fault), reply_to=message)
            replies.append(reply)
            node = message.metadata.dst_node_id
            if not reply.has_error() and (state or node in states):
                kept[node] = state
        good = [reply for reply in replies if not reply.has_error()]
        if good and summing is not None:
            summing.into(good[0])
        return replies, kept

    def _turns(
        self, messages: list[Message], states: list[RecordDict | None], names: list[str], shared: Any
    ) -> Iterator[tuple[Message, RecordDict]]:
        """Answer and state of each, one after the other, or by a stack where the app has one for them."""
        stacked = self._stacked(messages, states, names, shared)
        if stacked is not None:
            yield from stacked
            return
        for message, state in zip(messages, states, strict=True):
            yield self.turn(message, state, names, *shared)

    def _stacked(
        self, messages: list[Message], states: list[RecordDict | None], names: list[str], shared: Any
    ) -> list[tuple[Message, RecordDict]] | None:
        """What a stack of clients answers; None where there is none, or where one of them stops it."""
        if messages[0].metadata.message_type not in getattr(self.app, "stacks", ()):
            return None
        contexts = [self._told(*given, names, shared) for given in zip(messages, states, strict=True)]
        try:
            answers = self.app.together(messages, contexts)  # type: ignore[attr-defined]
        except Exception:
            return None  # one by one, each fails or answers for itself
        return list(zip(answers, [context.state for context in contexts], strict=True))

    def _told(self, message: Message, state: RecordDict | None, names: list[str], shared: Any) -> Context:
        """Completes a message with its arrays; gives the client's context."""
        records: dict[str, Any] = {**dict(zip(names, shared, strict=True)), **dict(message.content)}
        message.content = RecordDict(records)
        context = new_context(message.metadata.dst_node_id - FIRST_NODE, self.clients)
        if state is not None:
            context.state = state
        return context
