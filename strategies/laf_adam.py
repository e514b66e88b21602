"""LAF with a target for every row, reached by Adam. Forgotten rows are aligned with what they should become.

From LAF (Shen et al., ICLR 2024): the frozen teacher, h on its representations, label-free updates of
the extractor alone, alignment by cosine distance. Ours: the targets (`fedlaf.objectives.laf_targets`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from fedlaf.core.errors import require_count, require_number, within
from fedlaf.core.settings import require_effect
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry, Finding, RoundRecord
from fedlaf.objectives.laf import Represent
from fedlaf.objectives.laf_targets import Alignment, TargetRule, class_shift
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base import aggregate, diagnostics
from fedlaf.strategies.base.densities import DensityMethod, extractor_of, head_of, joined, with_extractor
from fedlaf.strategies.base.phase import Phase, ServerState, Who

PredictedCounts: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
"""A number for each class."""


def gaussians() -> Represent:
    """How h is learned unless a configuration says otherwise: as a Gaussian."""
    return Represent(density="gaussian")


@dataclass(frozen=True)
class LafAdam(DensityMethod):
    """Teach, represent, score, assign targets, apply the shift of classes, align.

    After h is learned, remaining clients say how large its error may be (score), forgetting clients
    take what is special out of their rows' targets and count the classes of these (assign_targets), everybody
    adds the shift of classes (apply_logit_shift), and all align the extractor with the targets for
    `align_rounds` rounds, in which forgetting clients weigh `forget_share`.
    """

    represent: Represent = field(default_factory=gaussians)
    target_rule: TargetRule = field(default_factory=TargetRule)
    align: Alignment = field(default_factory=Alignment)
    warmup_steps: int = 20
    align_rounds: int = 2
    forget_share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("warmup_steps", self.warmup_steps, at_least=0)
        require_count("align_rounds", self.align_rounds)
        require_number("forget_share", self.forget_share, above=0, at_most=1)
        with within("represent"):
            require_effect(self.represent, "own_epochs share_h_f", when="the published losses", holds=False)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Every phase is strict."""
        target_rule = self._with_density(self.target_rule)
        warmup = replace(self.align, steps=self.warmup_steps or 1)
        return [
            *self.teaching(),
            self._phase("score", "score", 1, Who.RETAIN, target_rule),
            self._phase("assign_targets", "assign_targets", 1, Who.FORGET, target_rule),
            self._phase("apply_logit_shift", "apply_logit_shift", 1, Who.BOTH, target_rule),
            *([self._phase("warmup", "align", 1, Who.FORGET, warmup)] if self.warmup_steps else []),
            self._phase("align", "align", self.align_rounds, Who.BOTH, self.align),
        ]

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """What the phase works on: h and the head for targets, the extractor for alignment."""
        head = {Part.HEAD: head_of(state.weights)}
        match phase.step:
            case "score" | "assign_targets":
                return {Part.VAE: state.aux["h"], **head}
            case "apply_logit_shift":
                return {Part.SHIFT: self._shift(state), **head}
            case "align":
                return {Part.EXTRACTOR: extractor_of(state.weights)}
            case _:
                return super().arrays(phase, state)

    def config(self, phase: Phase, state: ServerState) -> Mapping[str, Any]:
        """The settings; with the threshold of outliers for those who assign targets."""
        settings = super().config(phase, state)
        return (
            {**settings, "threshold": state.aux["threshold"]} if phase.step == "assign_targets" else settings
        )

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """Thresholds become their mean, counts their sum, extractors the blend of the two sides."""
        match phase.step:
            case "score":
                rows = [reply.numbers["rows"] for reply in replies]
                thresholds = [reply.numbers["threshold"] for reply in replies]
                mean = float(np.average(thresholds, weights=rows))
                predicted_counts = self._of_all(_counts(replies), state)
                return replace(state, aux={**state.aux, "threshold": mean, "retain": predicted_counts})
            case "assign_targets":
                return replace(state, aux={**state.aux, "forget": _counts(replies)})
            case "apply_logit_shift":
                return state
            case "align":
                extractor = joined(replies, self.forget_share)
                return replace(state, weights=with_extractor(state.weights, extractor))
            case _:
                return super().aggregate(phase, state, replies)

    def findings(self, records: Sequence[RoundRecord]) -> Sequence[Finding]:
        """Of h, of targets that ask for nothing, and at the end of ruin and of targets that were missed."""
        now = records[-1]
        assigned = next((r for r in records if r.phase == "apply_logit_shift"), now).numbers
        way = assigned.get("target_distance_forget", 0.0)
        found = list(diagnostics.of_density(records))
        if now.phase == "apply_logit_shift":
            found += diagnostics.of_way(now, way)
            found += diagnostics.of_change(now, assigned.get("changed", 0.0))
        if now.phase == "align" and now.round == self.align_rounds:
            found += diagnostics.of_ruin(now, now.numbers.get("distance_to_target_retain", 0.0))
            found += diagnostics.of_targets(now, way, now.numbers.get("distance_to_target_forget", 0.0))
        return found

    def _of_all(self, predicted_counts: PredictedCounts, state: ServerState) -> PredictedCounts:
        """The cohort's counts of classes, scaled to all rows that remain: forgotten ones are all counted."""
        if self.cohort is None:
            return predicted_counts
        scaled: PredictedCounts = predicted_counts * (
            state.aux["retain_rows"] / max(float(predicted_counts.sum()), 1.0)
        )
        return scaled

    def _shift(self, state: ServerState) -> Weights:
        remaining, forget = (torch.from_numpy(state.aux[side]) for side in ("retain", "forget"))
        shift = class_shift(remaining, forget, self.target_rule.strength, self.target_rule.negative_weight)
        return {"shift": shift.float().numpy(), "anchor": state.aux["h"]["shift"]}


def _counts(replies: Sequence[Reply]) -> PredictedCounts:
    return aggregate.summed([reply.arrays[Part.PREDICTED_COUNTS] for reply in replies])["predicted_counts"]
