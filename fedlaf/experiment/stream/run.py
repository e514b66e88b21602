"""The parts of a run over a stream that its services and its measures share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedlaf.core.cost import Cost
from fedlaf.core.request import ForgetRequest
from fedlaf.core.stream import Arrival
from fedlaf.core.types import Weights
from fedlaf.evaluation.stream_costs import TrainingRound
from fedlaf.experiment.checkpoints import StageFingerprint, StageKind
from fedlaf.experiment.curve import Curve, Followed
from fedlaf.experiment.objects import described
from fedlaf.experiment.pipeline import Pipeline
from fedlaf.experiment.stream.quality import FEW, TestCurve, few_of_test
from fedlaf.experiment.stream.roll import Roll
from fedlaf.experiment.stream.service import Stream
from fedlaf.experiment.stream.serving import Choice, Servants
from fedlaf.experiment.stream.state import Pending, StreamState
from fedlaf.method.contract import ClientRegistry, Method, Stage
from fedlaf.report import RequestResult

Asked = tuple[Sequence[int], Sequence[float]]
"""The clients that a round asked, and the passes of each of them."""


@dataclass
class StreamRun(Pipeline):
    """A run over a stream in progress: the plan's servants, who is there, and what has been done.

    `weights` are those of the published model; `state` says all else that decides
    what happens next.
    """

    state: StreamState = field(default_factory=StreamState)
    weights: Weights = field(default_factory=dict)
    held: dict[str, Weights] = field(default_factory=dict)
    enrolled: ClientRegistry = field(default_factory=lambda: ClientRegistry({}, {}))
    spent: Cost = field(default_factory=Cost)
    rounds: list[TrainingRound] = field(default_factory=list)
    asked_rounds: dict[str, list[Asked]] = field(default_factory=dict)
    following: TestCurve | None = None
    method: Method | None = None
    results: list[RequestResult] = field(default_factory=list)
    meanings: dict[tuple[Arrival, int], ForgetRequest] = field(default_factory=dict)
    _roll: Roll | None = None

    @property
    def stream(self) -> Stream:
        """The stream of the plan."""
        stream: Stream = self.plan.stream
        return stream

    @property
    def roll(self) -> Roll:
        """Who is there now."""
        return self.roll_of(self.state)

    def roll_of(self, state: StreamState) -> Roll:
        """Who is there in a state."""
        if self._roll is None or self._roll.state is not state:
            self._roll = Roll(self.stream, self.plan.federation, self.enrolled, state, self.meanings)
        return self._roll

    @property
    def servants(self) -> Servants:
        """The methods that serve requests."""
        rows = self.plan.federation.server
        fallback: Method | None = self.stream.fallback
        return Servants(self.plan.method, self.plan.method_name, fallback, 0 if rows is None else len(rows))

    @property
    def last(self) -> bool:
        """Whether training is over."""
        return self.state.round >= self.plan.train.rounds

    def choice(self, pending: Pending, state: StreamState | None = None) -> Choice:
        """Who serves a pending request."""
        now = state or self.state
        return self.servants.chosen(pending.request, self.roll_of(now).asked([pending]), now.round)

    def _curve(self, name: str, few: Followed | None, skip: int, weights: Weights) -> Curve:
        followed = self.plan.curve_rows > 0 and name.startswith("train")
        rows = few_of_test(self.plan.federation, FEW) if followed else None
        self.following = TestCurve(name, self.plan, skip, weights, rows)
        return self.following

    def _fingerprint(self, kind: StageKind, stage: Stage, rounds: int, start: Weights) -> StageFingerprint:
        """A service depends on what it is asked and who serves it, beside the configuration."""
        of = super()._fingerprint(kind, stage, rounds, start)
        if kind is StageKind.TRAINING:
            return of
        registry = stage.registry
        asked = {str(k): rows for k, rows in registry.request.rows.items()}
        removed = {str(k): rows for k, rows in registry.removed.rows.items()}
        weights = self.plan.fingerprint(
            of=of.weights, asked=asked, removed=removed, offline=registry.request.offline,
            method=described(self.method),
        )  # fmt: skip
        return StageFingerprint(weights, of.curve)
