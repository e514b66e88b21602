"""Federated Label-Agnostic Forgetting: VAEs on representations, label-free updates of the extractor.

The algorithm is that of Shen et al. (ICLR 2024); its federated form is ours: clients with
forgotten rows compute the forgotten terms of both losses, clients with remaining rows the
remaining terms, and the server joins the two sides. The head never moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from fedlaf.core.errors import require, require_count, require_number, within
from fedlaf.core.settings import require_effect
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry, Finding, RoundRecord
from fedlaf.objectives.laf import Forget
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base import aggregate, diagnostics
from fedlaf.strategies.base.densities import (
    DensityMethod,
    averaged_density,
    extractor_of,
    joined,
    mean_extractor,
    with_extractor,
)
from fedlaf.strategies.base.phase import Phase, ServerState, Who

RECOVERY = ("recover", "close")
"""Phases in which the remaining clients align, without L_UE and so without h."""


@dataclass(frozen=True)
class PublishedLaf(DensityMethod):
    """LAF with local optimisers: teach, represent, forget, recover, close.

    `forget_share` is the weight of the forgetting clients in each forget round (that of the
    remaining clients is the rest). `forget_steps` None takes one pass over the forgotten rows of
    the client that forgets most. In the last rounds only the remaining clients align, and the
    averaged update loses the part that leads back to the original model: in `recover_rounds` the
    way back from where the model is, in `closing_rounds` the one from where forgetting left it.
    """

    forget: Forget = field(default_factory=Forget)
    forget_rounds: int = 2
    forget_steps: int | None = 10
    recover: Forget = field(default_factory=lambda: Forget(lr_unlearning=0))
    recover_rounds: int = 2
    closing_rounds: int = 0
    forget_share: float = 0.55

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("forget_rounds", self.forget_rounds)
        require_count("recover_rounds", self.recover_rounds, at_least=0)
        require_count("closing_rounds", self.closing_rounds, at_least=0)
        require_number("forget_share", self.forget_share, above=0, at_most=1)
        if self.forget_steps is not None:
            require_count("forget_steps", self.forget_steps)
        self._require_effects()

    def _require_effects(self) -> None:
        rates = self.forget
        with within("forget"):
            same = rates.steps == self.forget_steps
            require_effect(rates, "steps", when="forget_steps, which goes before it", holds=same)
            require_effect(rates, "temperature", when="lr_alignment above 0", holds=rates.lr_alignment > 0)
            sampled = self.represent.density == "vae" and rates.lr_unlearning > 0
            require_effect(rates, "sampled", when="density=vae and lr_unlearning above 0", holds=sampled)
        recovers = self.recover_rounds + self.closing_rounds > 0
        require_effect(self, "recover", when="recover_rounds or closing_rounds", holds=recovers)
        with within("recover"):  # remaining rows alone, aligned
            require(self.recover.updates == "alternate", "updates", "alternate", self.recover.updates)
            require(self.recover.lr_unlearning == 0, "lr_unlearning", "0", self.recover.lr_unlearning)
            names = "temperature sampled weighting"
            require_effect(self.recover, names, when="rows to forget", holds=False)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Every phase is strict."""
        recover = replace(
            self._with_density(self.recover), sides="retain", lr_unlearning=0.0, weighting="none"
        )
        plan = [
            *self.teaching(),
            self._phase("represent own", "represent_own", 1, Who.FORGET, self.represent),
            *self.forgetting(registry),
            self._phase("recover", "forget", self.recover_rounds, Who.RETAIN, recover),
            self._phase("close", "forget", self.closing_rounds, Who.RETAIN, recover),
        ]
        return [phase for phase in plan if phase.rounds]

    def forgetting(self, registry: ClientRegistry) -> Sequence[Phase]:
        """The forget phase: local steps with local Adams; in two stages, one phase a loss."""
        forget = replace(self._with_density(self.forget), steps=self.steps(registry))
        stages = [("forget", forget)]
        if forget.updates == "two_stage":
            alone = replace(forget, updates="alternate")
            stages = [
                ("unlearn", replace(alone, lr_alignment=0.0)),
                ("align", replace(alone, lr_unlearning=0.0)),
            ]
        return [
            self._phase(name, "forget", self.forget_rounds, Who.BOTH, settings) for name, settings in stages
        ]

    def steps(self, registry: ClientRegistry) -> int:
        """Local steps of one forget round."""
        if self.forget_steps is not None:
            return self.forget_steps
        most = max((len(registry.request.of(k)) for k in registry.request.clients), default=1)
        return ceil(most / self.forget.batch_size)

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """The extractor, or h, or both: what the phase works on."""
        if phase.step in ("teach", "represent"):
            return super().arrays(phase, state)
        extractor = {Part.EXTRACTOR: extractor_of(state.weights)}
        if phase.name in RECOVERY:
            return extractor
        shared = state.aux.get("h_f")
        vaes = {Part.VAE: state.aux["h"]} | ({Part.FORGET_VAE: shared} if shared else {})
        return vaes if phase.step == "represent_own" else extractor | vaes

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """Moments become the first h, VAEs their mean, extractors the blend of the two sides."""
        match phase.step:
            case "teach" | "represent":
                return super().aggregate(phase, state, replies)
            case "represent_own":
                return averaged_density(state, replies, Part.FORGET_VAE, "h_f")
            case _:
                return self._forget(phase, state, replies)

    def _forget(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        now = extractor_of(state.weights)
        aux = dict(state.aux)
        if phase.name in RECOVERY:
            left = aux.setdefault("left", now)  # where forgetting left the model
            proposed = mean_extractor(replies, "retain")
            start = now if phase.name == "recover" else left
            proposed = aggregate.remove_reverting_component(now, proposed, start, aux["origin"])
        else:
            proposed = joined(replies, self.forget_share)
        return replace(state, weights=with_extractor(state.weights, proposed), aux=aux)

    def findings(self, records: Sequence[RoundRecord]) -> Sequence[Finding]:
        """Of h, of forgetting that moved nothing, and at the end of ruined remaining rows."""
        now, found = records[-1], list(diagnostics.of_density(records))
        retain, forget = (now.numbers.get(f"distance_{kind}") for kind in ("retain", "forget"))
        rounds = {"forget": self.forget_rounds, "align": self.forget_rounds, "recover": self.recover_rounds}
        rounds["close"] = self.closing_rounds
        if now.round != rounds.get(now.phase):
            return found
        if retain is not None and forget is not None:
            found += diagnostics.of_nothing(now, forget, retain)
        later = self.closing_rounds or (self.recover_rounds and now.phase != "recover")
        if retain is not None and (now.phase == "close" or not later):
            found += diagnostics.of_ruin(now, retain)
        return found
