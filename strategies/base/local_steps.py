"""What methods of local steps over the whole model share: it goes down, and its mean is the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from fedlaf.core.errors import require_count
from fedlaf.core.settings import require_effect
from fedlaf.core.types import Weights
from fedlaf.method.contract import Need
from fedlaf.objectives.classification import Fit
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base.phase import Phase, ServerState, Who
from fedlaf.strategies.base.strategy import ForgetStrategy


@dataclass(frozen=True)
class LocalSteps(ForgetStrategy):
    """A subclass says its phases; models are averaged by the rows that were used in the round.

    Strict throughout, because a missing party biases the result; one panel of clients.
    """

    cohort: int | None = None

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ONLINE, Need.LABELS})

    def __post_init__(self) -> None:
        if self.cohort is not None:
            require_count("cohort", self.cohort)

    def _phase(
        self, name: str, step: str, who: Who, settings: object, rounds: int = 1, mean: str | None = None
    ) -> Phase:
        return Phase(name, step, rounds, who, settings, self.cohort, fixed_cohort=True, mean=mean)

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """The whole model."""
        return {Part.MODEL: state.weights}

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The mean of the models, where that is what the phase is for."""
        if phase.mean is None:
            return state
        (mean,) = replies
        return replace(state, weights=mean.arrays[phase.mean])


@dataclass(frozen=True)
class Recovering(LocalSteps):
    """Ends with `recover_rounds` of federated averaging by the clients with rows that remain.

    Its other phases weigh a client by its forgotten rows, as only forgetting clients work in them.
    """

    recover: Fit = Fit()  # noqa: RUF009 (frozen)
    recover_rounds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("recover_rounds", self.recover_rounds, at_least=0)
        require_effect(self, "recover", when="recover_rounds above 0", holds=self.recover_rounds > 0)

    def recovery(self, mean: str | None = Part.MODEL) -> list[Phase]:
        """Nothing for 0 rounds."""
        if self.recover_rounds == 0:
            return []
        phase = self._phase("recover", "fit", Who.RETAIN, self.recover, self.recover_rounds, mean)
        return [phase]
