"""LAF with a goal for every row: the default. Forgotten rows are aligned with what they should become.

From LAF (Shen et al., ICLR 2024): the frozen teacher, h on its representations, label-free updates of
the extractor alone, alignment by cosine distance. Ours: the goals (`fedlaf.objectives.laf_targets`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from fedlaf.core.errors import require_count, require_number
from fedlaf.core.types import Weights
from fedlaf.method.contract import Finding, Roster, RoundRecord
from fedlaf.objectives.laf_targets import Aim, Align, class_shift
from fedlaf.protocol.messages import Action, Part, Reply
from fedlaf.strategies.base import aggregate, diagnostics
from fedlaf.strategies.base.densities import Teaching, extractor_of, head_of, joined, with_extractor
from fedlaf.strategies.base.phase import Phase, ServerState, Who

Votes: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
"""A number for each class."""


@dataclass(frozen=True)
class AimedLaf(Teaching):
    """Teach, represent, score, aim, settle, align.

    After h is learned, remaining clients say how large its error may be (score), forgetting clients
    take what is special out of their rows' goals and cast votes for classes (aim), everybody adds the
    shift of classes (settle), and all align the extractor with the goals for `align_rounds` rounds,
    in which forgetting clients weigh `forgetting_share`.
    """

    aim: Aim = field(default_factory=Aim)
    align: Align = field(default_factory=Align)
    lead_steps: int = 20
    align_rounds: int = 2
    forgetting_share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("lead_steps", self.lead_steps, at_least=0)
        require_count("align_rounds", self.align_rounds)
        require_number("forgetting_share", self.forgetting_share, above=0, at_most=1)

    def phases(self, roster: Roster) -> Sequence[Phase]:
        """Every phase is strict."""
        aim = self._with_density(self.aim)
        lead = replace(self.align, steps=self.lead_steps or 1, leads=True)
        return [
            *self.teaching(),
            self._phase("score", Action.SCORE, 1, Who.REMAINING, aim),
            self._phase("aim", Action.AIM, 1, Who.FORGETTING, aim),
            self._phase("settle", Action.SETTLE, 1, Who.BOTH, aim),
            *([self._phase("lead", Action.ALIGN, 1, Who.FORGETTING, lead)] if self.lead_steps else []),
            self._phase("align", Action.ALIGN, self.align_rounds, Who.BOTH, self.align),
        ]

    def sends(self, phase: Phase, state: ServerState) -> Mapping[Part, Weights]:
        """What the phase works on: h and the head for goals, the extractor for alignment."""
        head = {Part.HEAD: head_of(state.weights)}
        match phase.action:
            case Action.SCORE | Action.AIM:
                return {Part.VAE: state.aux["h"], **head}
            case Action.SETTLE:
                return {Part.SHIFT: self._shift(state), **head}
            case Action.ALIGN:
                return {Part.EXTRACTOR: extractor_of(state.weights)}
            case _:
                return super().sends(phase, state)

    def tells(self, phase: Phase, state: ServerState) -> Mapping[str, Any]:
        """The settings; with the threshold of odd rows for those who aim."""
        settings = super().tells(phase, state)
        return {**settings, "threshold": state.aux["threshold"]} if phase.action is Action.AIM else settings

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """Thresholds become their mean, votes their sum, extractors the blend of the two sides."""
        match phase.action:
            case Action.SCORE:
                rows = [reply.numbers["rows"] for reply in replies]
                thresholds = [reply.numbers["threshold"] for reply in replies]
                mean = float(np.average(thresholds, weights=rows))
                votes = self._of_all(_votes(replies), state)
                return replace(state, aux={**state.aux, "threshold": mean, "retained": votes})
            case Action.AIM:
                return replace(state, aux={**state.aux, "forgotten": _votes(replies)})
            case Action.SETTLE:
                return state
            case Action.ALIGN:
                extractor = joined(replies, self.forgetting_share)
                return replace(state, weights=with_extractor(state.weights, extractor))
            case _:
                return super().aggregate(phase, state, replies)

    def findings(self, records: Sequence[RoundRecord]) -> Sequence[Finding]:
        """Of h, of goals that ask for nothing, and at the end of ruin and of goals that were missed."""
        now = records[-1]
        settled = next((r for r in records if r.phase == "settle"), now).numbers
        way = settled.get("way_forgotten", 0.0)
        found = list(diagnostics.of_density(records))
        if now.phase == "settle":
            found += diagnostics.of_way(now, way)
            found += diagnostics.of_change(now, settled.get("changed", 0.0))
        if now.phase == "align" and now.round == self.align_rounds:
            found += diagnostics.of_ruin(now, now.numbers.get("to_goal_retained", 0.0))
            found += diagnostics.of_goals(now, way, now.numbers.get("to_goal_forgotten", 0.0))
        return found

    def _of_all(self, votes: Votes, state: ServerState) -> Votes:
        """The panel's counts of classes, scaled to all rows that remain: forgotten ones are all counted."""
        if self.cohort is None:
            return votes
        scaled: Votes = votes * (state.aux["remaining"] / max(float(votes.sum()), 1.0))
        return scaled

    def _shift(self, state: ServerState) -> Weights:
        remaining, forgotten = (torch.from_numpy(state.aux[side]) for side in ("retained", "forgotten"))
        shift = class_shift(remaining, forgotten, self.aim.strength, self.aim.against)
        return {"shift": shift.float().numpy(), "anchor": state.aux["h"]["shift"]}


def _votes(replies: Sequence[Reply]) -> Votes:
    return aggregate.summed([reply.arrays[Part.VOTES] for reply in replies])["votes"]
