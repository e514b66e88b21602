"""What the pipeline hands to a method and what it gets back: one stage of a run.

These types are the whole acquaintance of the pipeline with a method, so that a third party's
method plugs in by its name in conf/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar, Protocol

import torch
from flwr.serverapp import Grid

from fedlaf.core.cost import Cost
from fedlaf.core.errors import RoundFailed
from fedlaf.core.request import ForgetRequest, RowSplit
from fedlaf.core.types import ClientId, Weights
from fedlaf.method.update_history import Keep, Kept, Recorder, Records


class Need(StrEnum):
    """What a method must be given beside the model."""

    LEAVER = "the forgetting clients online"
    LABELS = "labels"
    WHOLE = "clients that leave with all their rows"
    START = "the start weights"
    UPDATES = "the clients' stored updates"
    LAST = "the model that each client trained last"
    MAGNITUDES = "a sum of absolute updates for each client"
    SERVER_ROWS = "unlabelled rows on the server"


@dataclass(frozen=True)
class Roster:
    """What the server knows of its clients: nodes, row counts, the request, what is gone, and how
    many rounds were `trained` before the request.
    """

    nodes: Mapping[ClientId, int]
    sizes: Mapping[ClientId, int]
    request: ForgetRequest = field(default_factory=ForgetRequest)
    gone: ForgetRequest = field(default_factory=ForgetRequest)
    trained: int = 0

    @cached_property
    def present(self) -> list[ClientId]:
        """Clients that have not withdrawn in an earlier request, in partition order."""
        return sorted(set(self.sizes) - self.gone.withdrawn)

    @cached_property
    def forgetting(self) -> list[ClientId]:
        """Clients with rows to forget, in partition order."""
        return [k for k in self.present if self.request.of(k)]

    @cached_property
    def remaining(self) -> list[ClientId]:
        """Clients with rows that remain, in partition order."""
        return [k for k in self.present if self.remaining_rows(k) > 0]

    @property
    def served(self) -> Roster:
        """The roster after the request: its rows are gone."""
        return replace(self, request=ForgetRequest(), gone=self.gone.joined(self.request, self.sizes))

    def remaining_rows(self, client: ClientId) -> int:
        """Rows of `client` that are neither gone nor to be forgotten."""
        return self.sizes[client] - len(self.gone.of(client)) - len(self.request.of(client))

    def split(self, client: ClientId) -> RowSplit:
        """The client's rows as an instruction names them."""
        leaves = client in self.request.withdrawn
        forget = () if leaves else self.request.of(client)
        return RowSplit(forget, self.gone.of(client), leaves)


@dataclass(frozen=True)
class RoundRecord:
    """What became of one round: who was asked, who failed and why, mean numbers, cost."""

    phase: str
    round: int
    asked: tuple[ClientId, ...]
    failed: Mapping[ClientId, str]
    numbers: Mapping[str, float]
    cost: Cost


OnRound = Callable[[RoundRecord, Weights], None]


@dataclass(frozen=True)
class Given:
    """What a method is given beside the model: what its `needs` name, and `fresh`, a network of the
    federation's kind with initial weights drawn from a seed.

    `inputs` are the server's rows without labels, float32 [N, c, h, w] in [0, 1]; `nbytes` is what all
    that takes on the server.
    """

    start: Weights | None = None
    records: Records | None = None
    inputs: torch.Tensor | None = None
    fresh: Callable[[int], torch.nn.Module] | None = None
    nbytes: int = 0

    def the(self, name: str) -> Any:
        """What is called `name`. Raises LookupError when the method's `needs` did not name it."""
        value = getattr(self, name)
        if value is None:
            raise LookupError(f"{name} was not given: the method's needs do not name it")
        return value


@dataclass(frozen=True)
class Stage:
    """One stage: its name, which names the random streams too, its seed and its clients.

    `skip` rounds of the first phase were done before (training that goes on after a request);
    `on_round` is told of each round as it ends. `given` is what the method needs beside the model,
    `recorder` keeps what is needed of this stage later.
    """

    name: str
    seed: int
    roster: Roster
    skip: int = 0
    timeout: float = 3600.0
    on_round: OnRound | None = None
    given: Given = field(default_factory=Given)
    recorder: Recorder | None = None


@dataclass(frozen=True)
class Finding:
    """What a method noticed while it ran; a `fatal` one says that its result cannot be right."""

    name: str
    phase: str
    round: int
    message: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.phase}, round {self.round}): {self.message}"

    def stopping(self, stage: str) -> str:
        """What it means for the stage that it stops, in a line."""
        return f"{stage} stopped, the model is the one from before it: {self}"


@dataclass(frozen=True)
class Outcome:
    """The weights after a stage, what it took, what was noticed, and what was kept for later."""

    weights: Weights
    cost: Cost
    records: tuple[RoundRecord, ...]
    findings: tuple[Finding, ...] = ()
    kept: Kept | None = None


class RequestStopped(RoundFailed):
    """A request whose result cannot be right; `outcome` has the weights from before it."""

    def __init__(self, stage: str, finding: Finding, outcome: Outcome) -> None:
        self.finding, self.outcome = finding, outcome
        super().__init__(finding.stopping(stage))


class Runnable(Protocol):
    """What the pipeline needs of a method."""

    needs: ClassVar[frozenset[Need]]

    @property
    def keeps(self) -> Keep:
        """What training must keep for it."""

    def total_rounds(self, roster: Roster) -> int:
        """Rounds over all phases, for progress."""

    def checked(self, roster: Roster) -> None:
        """Raise InvalidValue when the method cannot serve the roster's request."""

    def run(self, grid: Grid, weights: Weights, stage: Stage) -> Outcome:
        """Run all phases. Raises RoundFailed."""


class Trainable(Runnable, Protocol):
    """What the pipeline needs of a training method: it can stop at a round, to be continued."""

    @property
    def rounds(self) -> int:
        """Rounds of a whole training."""

    def until(self, rounds: int) -> Trainable:
        """The same method, stopping after `rounds` rounds."""


def asked(records: Sequence[RoundRecord]) -> tuple[ClientId, ...]:
    """The clients that were asked for anything over `records`, in order."""
    return tuple(sorted({client for record in records for client in record.asked}))


def failures(records: Sequence[RoundRecord]) -> dict[str, int]:
    """How many clients were asked, answered and failed over `records`."""
    asked = sum(len(record.asked) for record in records)
    failed = sum(len(record.failed) for record in records)
    return {"asked": asked, "answered": asked - failed, "failed": failed}
