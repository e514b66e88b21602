"""What the pipeline hands to a method and what it gets back: one stage of a run.

These types are the whole acquaintance of the pipeline with a method, so that a third party's
method plugs in by its name in conf/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from flwr.serverapp import Grid

from fedlaf.core.cost import Cost
from fedlaf.core.errors import RoundFailed
from fedlaf.core.request import ForgetRequest, RowSplit
from fedlaf.core.types import ClientId, Weights
from fedlaf.method.history_writer import HistoryWriter
from fedlaf.method.update_history import HistoryHandle, HistorySpec, UpdateHistory

if TYPE_CHECKING:
    from fedlaf.method.progress import StageProgress


class Need(StrEnum):
    """What a method must be given beside the model."""

    ONLINE = "the forgetting clients online"
    LABELS = "labels"
    WHOLE = "clients that leave with all their rows"
    START = "the start weights"
    UPDATES = "the clients' stored updates"
    LAST = "the model that each client trained last"
    MAGNITUDES = "a sum of absolute updates for each client"
    MODELS = "the models that the rounds of training began with"
    SERVER_ROWS = "unlabelled rows on the server"
    LINEAR = "an extractor that ends in a linear layer"


@dataclass(frozen=True)
class ClientRegistry:
    """What the server knows of its clients: nodes, row counts, the request, what is gone, and how
    many rounds were `trained` before the request.
    """

    nodes: Mapping[ClientId, int]
    sizes: Mapping[ClientId, int]
    request: ForgetRequest = field(default_factory=ForgetRequest)
    removed: ForgetRequest = field(default_factory=ForgetRequest)
    trained: int = 0

    @cached_property
    def present(self) -> list[ClientId]:
        """Clients that have not withdrawn in an earlier request, in partition order."""
        return sorted(set(self.sizes) - self.removed.withdrawn)

    @cached_property
    def forget_clients(self) -> list[ClientId]:
        """Clients with rows to forget, in partition order."""
        return [k for k in self.present if self.request.of(k)]

    @cached_property
    def retain_clients(self) -> list[ClientId]:
        """Clients with rows that remain, in partition order."""
        return [k for k in self.present if self.retain_rows(k) > 0]

    @property
    def after_request(self) -> ClientRegistry:
        """The roster after the request: its rows are gone."""
        return replace(self, request=ForgetRequest(), removed=self.removed.joined(self.request, self.sizes))

    def retain_rows(self, client: ClientId) -> int:
        """Rows of `client` that are neither gone nor to be forgotten."""
        return self.sizes[client] - len(self.removed.of(client)) - len(self.request.of(client))

    def split(self, client: ClientId) -> RowSplit:
        """The client's rows as an instruction names them."""
        withdraws = client in self.request.withdrawn
        forget = () if withdraws else self.request.of(client)
        return RowSplit(forget, self.removed.of(client), withdraws)


@dataclass(frozen=True)
class RoundRecord:
    """What became of one round: who was asked, who failed and why, mean numbers, cost; `passes` are those of
    each client that was asked, 0 where it failed.
    """

    phase: str
    round: int
    asked: tuple[ClientId, ...]
    failed: Mapping[ClientId, str]
    numbers: Mapping[str, float]
    cost: Cost
    passes: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "passes", tuple(self.passes))  # JSON has lists


OnRound = Callable[[RoundRecord, Weights], None]


@dataclass(frozen=True)
class MethodInputs:
    """What a method is given beside the model: what its `needs` name, and `fresh`, a network of the
    federation's kind with initial weights drawn from a seed.

    `server_rows` are the server's rows [N, ...] without labels, as a model takes them; `nbytes` is what all
    that takes on the server.
    """

    start: Weights | None = None
    history: UpdateHistory | None = None
    server_rows: torch.Tensor | None = None
    fresh: Callable[[int], torch.nn.Module] | None = None
    nbytes: int = 0

    def require(self, name: str) -> Any:
        """What is called `name`. Raises LookupError when the method's `needs` did not name it."""
        value = getattr(self, name)
        if value is None:
            raise LookupError(f"{name} was not given: the method's needs do not name it")
        return value


@dataclass(frozen=True)
class Stage:
    """One stage: its name, which names the random streams too, its seed and its clients.

    `skip` rounds of the first phase were done before (training that goes on after a request). In a `strict`
    stage every answer of every phase counts: retraining, and all that serves a request.
    `on_round` is told of each round as it ends. `inputs` are what the method needs beside the model,
    `history_writer` keeps what is needed of this stage later. `on_progress` is told where the stage stands
    after each round but the last; with `resumed`, the stage goes on from there.
    """

    name: str
    seed: int
    registry: ClientRegistry
    skip: int = 0
    timeout: float = 3600.0
    on_round: OnRound | None = None
    inputs: MethodInputs = field(default_factory=MethodInputs)
    history_writer: HistoryWriter | None = None
    strict: bool = False
    on_progress: Callable[[StageProgress], None] | None = None
    resumed: StageProgress | None = None


@dataclass(frozen=True)
class Finding:
    """What a method noticed while it ran; a `fatal` one says that its result cannot be right."""

    name: str
    phase: str
    round: int
    message: str
    fatal: bool = False

    def __str__(self) -> str:
        where = f"{self.phase}, round {self.round}" if self.round else self.phase
        return f"{self.name} ({where}): {self.message}"

    def stopping(self, stage: str) -> str:
        """What it means for the stage that it stops, in a line."""
        return f"{stage} stopped, the model is the one from before it: {self}"


@dataclass(frozen=True)
class StageResult:
    """The weights after a stage, what it took, what was noticed, and what was kept for later."""

    weights: Weights
    cost: Cost
    records: tuple[RoundRecord, ...]
    findings: tuple[Finding, ...] = ()
    history: HistoryHandle | None = None


class RequestStopped(RoundFailed):
    """A request whose result cannot be right; `result` has the weights from before it."""

    def __init__(self, stage: str, finding: Finding, result: StageResult) -> None:
        self.finding, self.result = finding, result
        super().__init__(finding.stopping(stage))


class Method(Protocol):
    """What the pipeline needs of a method."""

    needs: ClassVar[frozenset[Need]]

    @property
    def history_spec(self) -> HistorySpec:
        """What training must keep for it."""

    def total_rounds(self, registry: ClientRegistry) -> int:
        """Rounds over all phases, for progress."""

    def client_steps(self, registry: ClientRegistry) -> frozenset[str]:
        """Names of the client steps that it calls."""

    def check(self, registry: ClientRegistry) -> None:
        """Raise InvalidValue when the method cannot serve the roster's request."""

    def limits(self, registry: ClientRegistry) -> Sequence[Finding]:
        """What it cannot do for the request, as far as that is known before anything is paid for."""

    def run(self, grid: Grid, weights: Weights, stage: Stage) -> StageResult:
        """Run all phases. Raises RoundFailed."""


class TrainingMethod(Method, Protocol):
    """What the pipeline needs of a training method: it can stop at a round, to be continued."""

    @property
    def rounds(self) -> int:
        """Rounds of a whole training."""

    def until(self, rounds: int) -> TrainingMethod:
        """The same method, stopping after `rounds` rounds."""
