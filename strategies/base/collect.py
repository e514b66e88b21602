"""The replies of one round: who answered well, who failed and why; the mean where only that is needed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Message

from fedlaf.core.types import ClientId, Weights
from fedlaf.method.history_writer import HistoryWriter
from fedlaf.protocol.messages import Part, Reply, decode_reply
from fedlaf.protocol.replies import ROWS, StreamingMean, fault_of, unlike_others, without_arrays


@dataclass
class ReplyCollector:
    """Checks the replies of a round and keeps the good ones.

    `nodes` are the nodes of the clients that were asked, `sizes` the rows that all clients hold, `sent` the
    arrays that were sent. With `mean`
    replies lose their arrays to it; with `history` the trained models are kept for later requests.
    """

    nodes: Mapping[ClientId, int]
    sizes: Mapping[ClientId, int]
    sent: Mapping[str, Weights]
    round: int
    mean: StreamingMean | None
    history: HistoryWriter | None

    def __post_init__(self) -> None:
        self.good: dict[ClientId, Reply] = {}
        self.failed: dict[ClientId, str] = dict.fromkeys(self.nodes, "no answer in time")

    def collect(self, replies: Iterable[Message], asked: Collection[Message] = ()) -> None:
        """Take replies as they come. What answers none of the messages `asked` is late and is ignored, and so
        is what comes from a client that was not asked, or again.
        """
        clients, of_round = {node: client for client, node in self.nodes.items()}, _Asked(asked)
        for message in replies:
            client = clients.get(message.metadata.src_node_id)
            if client is None or client in self.good or not of_round.by(message):
                continue
            fault = self._fault(message, client)
            if fault is None:
                del self.failed[client]
            else:
                self.failed[client] = fault

    def _fault(self, message: Message, client: ClientId) -> str | None:
        """Why a reply must be refused; None for a good one, which is then kept."""
        if message.has_error():
            return message.error.reason or f"error {message.error.code}"
        try:
            reply = decode_reply(message, client)
        except (KeyError, TypeError, ValueError) as error:
            return f"a malformed reply ({type(error).__name__}: {error})"
        fault = fault_of(reply, self.sent, size=self.sizes[client])
        if fault is None and self.mean is not None:
            fault = self.mean.take(reply)
        if fault:
            return fault
        if self.history is not None and Part.MODEL in reply.arrays:
            trained, rows = reply.arrays[Part.MODEL], int(reply.numbers[ROWS])
            self.history.take(self.round, client, self.sent[Part.MODEL], trained, rows=rows)
        self.good[client] = reply if self.mean is None else without_arrays(reply)
        return None

    def refuse_unlike(self) -> None:
        """Refuse replies whose arrays differ in form from most others'."""
        for client, fault in unlike_others(list(self.good.values())).items():
            del self.good[client]
            self.failed[client] = fault

    @property
    def summed_up(self) -> bool:
        """Whether the sums that grids sent are over the rows of the clients that answered."""
        rows = sum(int(reply.numbers[ROWS]) for reply in self.good.values()) if self.mean else 0
        return self.mean is None or self.mean.mean.weight == rows

    @property
    def replies(self) -> list[Reply]:
        """The good replies in partition order."""
        return [self.good[client] for client in sorted(self.good)]

    @property
    def to_aggregate(self) -> list[Reply]:
        """The good replies, or the one with their mean where that is all that is needed."""
        if self.mean is None:
            return self.replies
        part, mean = self.mean.request.part, self.mean.mean
        return [Reply({part: mean.value()}, {ROWS: mean.weight})]


class _Asked:
    """The messages of a round, by the ids that the transport gave them when it took them."""

    def __init__(self, messages: Collection[Message]) -> None:
        self.messages = messages
        self.ids: set[str] = set()

    def by(self, reply: Message) -> bool:
        """Whether a reply answers one of them; any does where the transport gives no ids."""
        asked = reply.metadata.reply_to_message_id
        if asked not in self.ids and len(self.ids) < len(self.messages):  # once a round: all are sent by then
            self.ids = {message.metadata.message_id for message in self.messages} - {""}
        return not self.ids or asked in self.ids
