"""Runs over a stream on a small federation, in this process, with all messages captured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Message
from safetensors.numpy import load_file

from fedlaf.client import make_client_app
from fedlaf.core.request_record import RequestRecord
from fedlaf.core.types import Weights
from fedlaf.experiment.checkpoints import CheckpointStore
from fedlaf.experiment.plan import Plan, prepare
from fedlaf.experiment.stream.pipeline import StreamPipeline
from fedlaf.protocol.messages import Instruction, decode_instruction
from fedlaf.report import Report
from fedlaf.simulation import InlineGrid
from support.federations import RecordingGrid
from support.runs import StagesRun, composed

SMALL = (
    "data=digits", "data.train_rows=240", "data.test_rows=60", "model=small_cnn", "clients=6",
    "corruption=none", "engine=inline", "train.rounds=4", "train.fit.batch_size=20",
    "evaluation.curve_rows=0",
    "forget.rule.min_rows=1", "evaluation.most_rows=100", "stream.prefixes=[]", "stream.arrivals.file=FILE",
)  # fmt: skip


Tell = Callable[[RequestRecord], None]


@dataclass
class Told(StreamPipeline):
    """Tells of each request that has ended, as it tells the ledger."""

    tell: Tell = field(default=lambda record: None)

    def ended(self, record: RequestRecord) -> None:
        super().ended(record)
        self.tell(record)


@dataclass
class Ran:
    """A run that has ended: its pipeline, the records that the ledger was told, and what was sent to whom."""

    pipeline: StreamPipeline
    report: Report
    records: list[RequestRecord]
    grid: RoundsGrid

    @property
    def stream(self) -> Mapping[str, Any]:
        return self.report.stream

    def request(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = next(r for r in self.stream["requests"] if r["request"]["id"] == name)
        return found

    def weights(self, stage: str) -> Weights:
        return dict(sorted(load_file(self.pipeline.store.folder / f"{stage}.safetensors").items()))

    def instructions(self) -> list[tuple[int, Instruction]]:
        """Client (the partition of the node) and instruction of each message, in their order."""
        return [(client, order) for client, order, _ in self.sent_when()]

    def sent_when(self) -> list[tuple[int, Instruction, int]]:
        """The same, with how many requests had ended when the message was sent."""
        clients = {node: client for client, node in self.pipeline.enrolled.nodes.items()}
        return [
            (clients[message.metadata.dst_node_id], decode_instruction(message), ended)
            for message, ended in zip(self.grid.sent, self.grid.ended, strict=True)
            if not message.metadata.message_type.startswith("query")
        ]


class RoundsGrid(RecordingGrid):
    """Notes, too, how many requests had ended when each message was sent."""

    pipeline: StreamPipeline | None = None
    keeps = True

    def __init__(self, inner: InlineGrid) -> None:
        super().__init__(inner)
        self.ended: list[int] = []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        if not self.keeps:
            return self.inner.send_and_receive(messages, timeout=timeout)
        sent = list(messages)
        ended = len(self.pipeline.state.outcomes) if self.pipeline is not None else 0
        self.ended += [ended] * len(sent)
        return super().send_and_receive(sent, timeout=timeout)


def keys_of(trace: Path) -> list[str]:
    """The keys of a small run over the requests of a trace file."""
    return [key.replace("FILE", str(trace)) for key in ("stream=trace", *SMALL)]


def plan_of(folder: Path, trace: Sequence[Mapping[str, Any]], *overrides: str) -> Plan:
    """The plan of a small run over the requests of a trace."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "requests.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in trace))
    keys = keys_of(file)
    chosen = next((key for key in overrides if key.startswith("forget=")), "forget=laf")
    if chosen != "forget=laf":
        keys.remove("forget.rule.min_rows=1")
    return prepare(composed(*keys, *overrides), chosen.removeprefix("forget="))


def run_stream(
    folder: Path, trace: Sequence[Mapping[str, Any]], *overrides: str, tell: Tell | None = None
) -> Ran:
    """Run a trace, every message captured."""
    plan = plan_of(folder, trace, *overrides)
    clients = len(plan.federation)
    grid = RoundsGrid(InlineGrid(make_client_app(plan.spec), clients))
    store = CheckpointStore(folder, plan.resume, plan.provenance)
    records: list[RequestRecord] = []
    pipeline = Told(plan, grid, store, StagesRun(), tell=tell or records.append)  # type: ignore[arg-type]
    grid.pipeline, grid.keeps = pipeline, tell is None
    return Ran(pipeline, pipeline.run(), records, grid)
