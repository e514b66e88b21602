"""LAF in closed form, then a few rounds of Adam on the whole extractor: what the last layer cannot reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fedlaf.core.errors import require_count, require_number
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry
from fedlaf.objectives.laf_targets import Alignment, TargetRule
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base.densities import extractor_of, head_of, joined, with_extractor
from fedlaf.strategies.base.phase import Phase, ServerState, Who
from fedlaf.strategies.laf import Laf


@dataclass(frozen=True)
class LafHybrid(Laf):
    """The solution, then `align_rounds` in which all clients of the request take Adam steps toward the same
    targets from there; forgetting clients weigh `forget_share` in the mean.
    """

    align: Alignment = field(default_factory=lambda: Alignment(lr=1e-4))
    align_rounds: int = 2
    forget_share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("align_rounds", self.align_rounds)
        require_number("forget_share", self.forget_share, above=0, at_most=1)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Those of LAF, the shift of all targets, alignment."""
        rule = replace(self.rule, keep_targets=True)
        solution = [replace(phase, settings=rule) for phase in super().phases(registry)]
        last = replace(solution[-1], who=Who.BOTH)
        return [
            *solution,
            replace(last, name="shift", step="apply_logit_shift", settings=TargetRule()),
            replace(last, name="align", step="align", rounds=self.align_rounds, settings=self.align),
        ]

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """Who aligns: those that took part in the solution with all the rows that they are to forget."""
        state = super().server_init(state, registry)
        forget, retain = (set(state.aux["contributing"][kind]) for kind in ("forget", "retain"))
        return self._with(state, aligned=(forget | retain) - (set(registry.forget_clients) - forget))

    def select_clients(self, phase: Phase, state: ServerState, clients: list[int]) -> list[int]:
        """Those that align."""
        if phase.name not in ("shift", "align"):
            return super().select_clients(phase, state, clients)
        return [client for client in clients if client in state.aux["aligned"]]

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """The shift and the head; the extractor to align."""
        if phase.name == "shift":
            sent = {"shift": state.aux["shift"], "anchor": state.aux["mean"]}
            told = {name: np.asarray(array, np.float32) for name, array in sent.items()}
            return {Part.SHIFT: told, Part.HEAD: head_of(state.weights)}
        if phase.name == "align":
            return {Part.EXTRACTOR: extractor_of(state.weights)}
        return super().arrays(phase, state)

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """Extractors become the blend of the two sides."""
        if phase.name == "shift":
            return state
        if phase.name == "align":
            extractor = joined(replies, self.forget_share)
            return replace(state, weights=with_extractor(state.weights, extractor))
        return super().aggregate(phase, state, replies)
