"""Federated Label-Agnostic Forgetting: VAEs on representations, label-free updates of the extractor.

The algorithm is that of Shen et al. (ICLR 2024); its federated form is ours: clients with
forgotten rows compute the forgotten terms of both losses, clients with remaining rows the
remaining terms, and the server joins the two sides. The head never moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import ClassVar

import numpy as np

from fedlaf.models import EXTRACTOR, build_vae
from fedlaf.objectives import Forget, Represent
from fedlaf.seeding import seed_for
from fedlaf.stage import Need, Roster
from fedlaf.types import Weights, require_count, require_number
from fedlaf.wire import Action, Part, Reply
from strategies import aggregate
from strategies.base import ForgetStrategy, check_cohort
from strategies.phase import Phase, ServerState, Who

RECOVERY = ("recover", "close")
"""Phases in which the remaining clients align, without L_UE and so without h."""


@dataclass(frozen=True)
class Laf(ForgetStrategy):
    """LAF with local optimisers: teach, represent, forget, recover, close.

    `forgetting_share` is the weight of the forgetting clients in each forget round (that of the
    remaining clients is the rest). `forget_steps` None takes one pass over the forgotten rows of
    the client that forgets most. In the last rounds only the remaining clients align, and the
    averaged update loses the part that leads back to the original model: in `recover_rounds` the
    way back from where the model is, in `closing_rounds` the one from where forgetting left it.
    """

    represent: Represent = field(default_factory=Represent)
    represent_rounds: int = 10
    forget: Forget = field(default_factory=Forget)
    forget_rounds: int = 2
    forget_steps: int | None = 10
    recover: Forget = field(default_factory=lambda: Forget(lr_unlearning=0, lr_alignment=1e-3))
    recover_rounds: int = 2
    closing_rounds: int = 2
    forgetting_share: float = 0.5
    cohort: int | None = None

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LEAVER})

    def __post_init__(self) -> None:
        require_count("represent_rounds", self.represent_rounds)
        require_count("forget_rounds", self.forget_rounds)
        require_count("recover_rounds", self.recover_rounds, at_least=0)
        require_count("closing_rounds", self.closing_rounds, at_least=0)
        require_number("forgetting_share", self.forgetting_share, above=0, at_most=1)
        if self.forget_steps is not None:
            require_count("forget_steps", self.forget_steps)
        if self.cohort is not None:
            require_count("cohort", self.cohort)

    def checked(self, roster: Roster) -> None:
        """Raise InvalidValue for a cohort larger than the federation."""
        if self.cohort is not None:
            check_cohort(self.cohort, roster)

    def phases(self, roster: Roster) -> Sequence[Phase]:
        """Strict throughout, because a missing party biases the result; one panel of clients."""
        learners = Who.BOTH if self.represent.rows == "all" else Who.REMAINING
        recover = replace(self._with_vae(self.recover), sides="retained", lr_unlearning=0.0)
        rounds = self.represent_rounds
        plan = [
            self._phase("teach", Action.TEACH, 1, Who.BOTH, self.represent),
            self._phase("represent", Action.REPRESENT, rounds, learners, self.represent),
            self._phase("represent own", Action.REPRESENT_OWN, 1, Who.FORGETTING, self.represent),
            *self.forgetting(roster),
            self._phase("recover", Action.FORGET, self.recover_rounds, Who.REMAINING, recover),
            self._phase("close", Action.FORGET, self.closing_rounds, Who.REMAINING, recover),
        ]
        return [phase for phase in plan if phase.rounds]

    def forgetting(self, roster: Roster) -> Sequence[Phase]:
        """The forget phase: local steps with local Adams; in two stages, one phase a loss."""
        forget = replace(self._with_vae(self.forget), steps=self.steps(roster))
        stages = [("forget", forget)]
        if forget.updates == "two_stage":
            alone = replace(forget, updates="alternate")
            stages = [
                ("unlearn", replace(alone, lr_alignment=0.0)),
                ("align", replace(alone, lr_unlearning=0.0)),
            ]
        return [
            self._phase(name, Action.FORGET, self.forget_rounds, Who.BOTH, settings)
            for name, settings in stages
        ]

    def _phase(self, name: str, action: Action, rounds: int, who: Who, settings: object) -> Phase:
        return Phase(name, action, rounds, who, settings, self.cohort, panel=True)

    def steps(self, roster: Roster) -> int:
        """Local steps of one forget round."""
        if self.forget_steps is not None:
            return self.forget_steps
        most = max((len(roster.request.of(k)) for k in roster.request.clients), default=1)
        return ceil(most / self.forget.batch_size)

    def sends(self, phase: Phase, state: ServerState) -> Mapping[Part, Weights]:
        """The extractor, or h, or both: what the phase works on."""
        extractor = {Part.EXTRACTOR: extractor_of(state.weights)}
        if phase.action is Action.TEACH or phase.name in RECOVERY:
            return extractor
        shared = state.aux.get("h_f")
        vaes = {Part.VAE: state.aux["h"]} | ({Part.FORGOTTEN_VAE: shared} if shared else {})
        learns = phase.action in (Action.REPRESENT, Action.REPRESENT_OWN)
        return vaes if learns else extractor | vaes

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """Moments become the first h, VAEs their mean, extractors the blend of the two sides."""
        match phase.action:
            case Action.TEACH:
                return self._taught(state, replies)
            case Action.REPRESENT:
                return _averaged(state, replies, Part.VAE, "h")
            case Action.REPRESENT_OWN:
                return _averaged(state, replies, Part.FORGOTTEN_VAE, "h_f")
            case _:
                return self._forgotten(phase, state, replies)

    def _taught(self, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        found = aggregate.weighted_mean(
            [reply.arrays[Part.VAE] for reply in replies], [reply.numbers["rows"] for reply in replies]
        )
        mean, square = found["mean"], found["mean_square"]
        seed = seed_for(state.aux["seed"], state.aux["stage"], "h")
        h = build_vae(len(mean), self.represent.latent, self.represent.decoder, seed)
        weights = {k: v.numpy() for k, v in h.state_dict().items()}
        if self.represent.standardise:
            deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
            # A dimension that never varies says nothing: scale 1 leaves it at zero.
            deviation[deviation < 1e-6] = 1.0
            weights["shift"], weights["scale"] = (
                mean.astype(np.float32),
                deviation.astype(np.float32),
            )
        origin = extractor_of(state.weights)
        return replace(state, aux={**state.aux, "h": weights, "origin": origin})

    def _forgotten(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        now = extractor_of(state.weights)
        aux = dict(state.aux)
        if phase.name in RECOVERY:
            left = aux.setdefault("left", now)  # where forgetting left the model
            proposed = _mean_extractor(replies, "retained")
            start = now if phase.name == "recover" else left
            proposed = aggregate.closing_the_way_back(now, proposed, start, aux["origin"])
        else:
            proposed = self.joined(replies)
        return replace(state, weights=with_extractor(state.weights, proposed), aux=aux)

    def joined(self, replies: Sequence[Reply]) -> Weights:
        """The new extractor: forgetting clients weigh `forgetting_share` in all, by forgotten rows;
        the others the rest, by remaining rows; a side that is empty leaves all to the other.
        """
        forgetting = [reply for reply in replies if reply.numbers["forgotten"] > 0]
        others = [reply for reply in replies if reply.numbers["forgotten"] == 0]
        if not others:
            return _mean_extractor(forgetting, "forgotten")
        remaining = _mean_extractor(others, "retained")
        left = _mean_extractor(forgetting, "forgotten")
        return aggregate.blend(remaining, left, self.forgetting_share)

    def _with_vae(self, settings: Forget) -> Forget:
        vae = self.represent
        return replace(settings, latent=vae.latent, decoder=vae.decoder, error=vae.error)


def _averaged(state: ServerState, replies: Sequence[Reply], part: Part, name: str) -> ServerState:
    learned = [reply for reply in replies if part in reply.arrays and reply.numbers["rows"] > 0]
    if not learned:  # every client keeps its own
        return state
    rows = [reply.numbers["rows"] for reply in learned]
    mean = aggregate.weighted_mean([reply.arrays[part] for reply in learned], rows)
    return replace(state, aux={**state.aux, name: mean})


def _mean_extractor(replies: Sequence[Reply], rows: str) -> Weights:
    return aggregate.weighted_mean(
        [reply.arrays[Part.EXTRACTOR] for reply in replies], [reply.numbers[rows] for reply in replies]
    )


def extractor_of(weights: Weights) -> Weights:
    """The extractor's arrays of a classifier, under the names they have in the extractor."""
    return {k.removeprefix(EXTRACTOR): v for k, v in weights.items() if k.startswith(EXTRACTOR)}


def with_extractor(weights: Weights, extractor: Weights) -> Weights:
    """The classifier's weights with another extractor; the head's arrays are the same objects."""
    return {
        k: extractor[k.removeprefix(EXTRACTOR)] if k.startswith(EXTRACTOR) else v for k, v in weights.items()
    }
