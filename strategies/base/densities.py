"""What the methods on representations share: the teacher's representations, and h learned from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

import numpy as np
import torch

from fedlaf.core.errors import require_count
from fedlaf.core.seeding import seed_for
from fedlaf.core.settings import require_effect
from fedlaf.core.types import Weights
from fedlaf.method.contract import Need
from fedlaf.models import EXTRACTOR, HEAD, Gaussian, build_vae
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.objectives.laf_closed_form import ClosedForm
from fedlaf.objectives.laf_targets import TargetRule
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base import aggregate
from fedlaf.strategies.base.phase import Phase, ServerState, Who
from fedlaf.strategies.base.strategy import ForgetStrategy

S = TypeVar("S", TargetRule, Forget, ClosedForm)


@dataclass(frozen=True)
class DensityMethod(ForgetStrategy):
    """Clients keep the trained model's representations and learn h from them, a VAE or a Gaussian.

    Strict throughout, because a missing party biases the result; one panel of clients.
    """

    represent: Represent = field(default_factory=Represent)
    represent_rounds: int = 10
    cohort: int | None = None

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ONLINE})

    def __post_init__(self) -> None:
        require_count("represent_rounds", self.represent_rounds)
        vae = self.represent.density == "vae"
        require_effect(self, "represent_rounds", when="represent.density=vae", holds=vae)
        if self.cohort is not None:
            require_count("cohort", self.cohort)

    def teaching(self) -> list[Phase]:
        """The teacher's representations, then h; a Gaussian is there after the first."""
        learners = Who.BOTH if self.represent.rows == "all" else Who.RETAIN
        plan = [self._phase("teach", "teach", 1, Who.BOTH, self.represent)]
        if self.represent.density == "vae":
            rounds = self.represent_rounds
            plan.append(self._phase("represent", "represent", rounds, learners, self.represent))
        return plan

    def _with_density(self, settings: S) -> S:
        """The settings of a later phase, with what they must know to build h."""
        return with_density(settings, self.represent)

    def _phase(self, name: str, step: str, rounds: int, who: Who, settings: object) -> Phase:
        return Phase(name, step, rounds, who, settings, self.cohort, fixed_cohort=True)

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """The extractor to teach, then h."""
        if phase.step == "teach":
            return {Part.EXTRACTOR: extractor_of(state.weights)}
        return {Part.VAE: state.aux["h"]}

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """Moments become the first h, VAEs their mean."""
        if phase.step == "teach":
            return self._taught(state, replies)
        return averaged_density(state, replies, Part.VAE, "h")

    def _taught(self, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        rows = [reply.numbers["rows"] for reply in replies]
        found = aggregate.weighted_mean([reply.arrays[Part.VAE] for reply in replies], rows)
        gaussian = self.represent.density == "gaussian"
        fitted = self._gaussian(found) if gaussian else initial_vae(self.represent, found, state)
        origin = extractor_of(state.weights)
        return replace(state, aux={**state.aux, "h": fitted, "origin": origin})

    def _gaussian(self, moments: Weights) -> Weights:
        h = Gaussian(len(moments["mean"]))
        h.fit(torch.from_numpy(moments["mean"]), torch.from_numpy(moments["second_moment"]))
        return {k: v.numpy() for k, v in h.state_dict().items()}


def with_density(settings: S, h: Represent) -> S:
    """The settings of a later phase, with what they must know to build h."""
    return replace(settings, latent=h.latent, decoder=h.decoder, error=h.error, density=h.density)


def initial_vae(represent: Represent, moments: Weights, state: ServerState) -> Weights:
    """The VAE h before training: one for all clients, standardised by the `mean` and `mean_square` [D]."""
    mean, square = moments["mean"], moments["mean_square"]
    seed = seed_for(state.aux["seed"], state.aux["stage"], "h")
    h = build_vae(len(mean), represent.latent, represent.decoder, seed)
    weights = {k: v.numpy() for k, v in h.state_dict().items()}
    if represent.standardise:
        deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
        # A dimension that never varies says nothing: scale 1 leaves it at zero.
        deviation[deviation < 1e-6] = 1.0
        weights["shift"], weights["scale"] = mean.astype(np.float32), deviation.astype(np.float32)
    return weights


def averaged_density(state: ServerState, replies: Sequence[Reply], part: str, name: str) -> ServerState:
    """The state with the mean of the replies' densities, by rows, under `name`."""
    learned = [reply for reply in replies if part in reply.arrays and reply.numbers["rows"] > 0]
    if not learned:  # every client keeps its own
        return state
    rows = [reply.numbers["rows"] for reply in learned]
    mean = aggregate.weighted_mean([reply.arrays[part] for reply in learned], rows)
    return replace(state, aux={**state.aux, name: mean})


def joined(replies: Sequence[Reply], forget_share: float, part: str = Part.EXTRACTOR) -> Weights:
    """The new extractor (or other part): forgetting clients weigh `forget_share` in all, by forgotten
    rows; the others the rest, by remaining rows; a side that is empty leaves all to the other.
    """
    forgetting = [reply for reply in replies if reply.numbers["forget"] > 0]
    others = [reply for reply in replies if reply.numbers["forget"] == 0]
    if not others:
        return mean_extractor(forgetting, "forget", part)
    if not forgetting:
        return mean_extractor(others, "retain", part)
    remaining, left = mean_extractor(others, "retain", part), mean_extractor(forgetting, "forget", part)
    return aggregate.blend(remaining, left, forget_share)


def mean_extractor(replies: Sequence[Reply], rows: str, part: str = Part.EXTRACTOR) -> Weights:
    """The mean of the replies' extractors (or other part), weighted by their number `rows`."""
    return aggregate.weighted_mean(
        [reply.arrays[part] for reply in replies], [reply.numbers[rows] for reply in replies]
    )


def extractor_of(weights: Weights) -> Weights:
    """The extractor's arrays of a classifier, under the names they have in the extractor."""
    return {k.removeprefix(EXTRACTOR): v for k, v in weights.items() if k.startswith(EXTRACTOR)}


def head_of(weights: Weights) -> Weights:
    """The head's arrays of a classifier, under the names they have in the head."""
    return {k.removeprefix(HEAD): v for k, v in weights.items() if k.startswith(HEAD)}


def with_extractor(weights: Weights, extractor: Weights) -> Weights:
    """The classifier's weights with another extractor; the head's arrays are the same objects."""
    return {
        k: extractor[k.removeprefix(EXTRACTOR)] if k.startswith(EXTRACTOR) else v for k, v in weights.items()
    }
