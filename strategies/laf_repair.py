"""LAF+R: LAF, then supervised repair with a labelled share of the remaining rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from fedlaf.core.errors import require_count
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.objectives.classification import Fit
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base.aggregate import remove_reverting_component
from fedlaf.strategies.base.phase import Phase, ServerState, Who
from fedlaf.strategies.base.strategy import ForgetStrategy
from fedlaf.strategies.laf import Laf
from fedlaf.strategies.laf_adam import LafAdam
from fedlaf.strategies.laf_published import PublishedLaf


@dataclass(frozen=True)
class Repair(ForgetStrategy):
    """After the phases of LAF, `repair_rounds` of federated averaging by the clients with rows that remain.

    `repair.labels` is the share of those rows that is labelled; with 0 this is plain LAF. Repair
    trains the whole model, the head too (Shen et al., ICLR 2024). With `one_way` no round's mean update goes
    back toward the model from before the request: what it has of that direction is taken off, as FedOSD does
    in recovery (AAAI 2025). Goes before the LAF it repairs in a class's bases.
    """

    repair: Fit = field(default_factory=lambda: Fit(labels=0.25))
    repair_rounds: int = 1
    cohort: int | None = None
    one_way: bool = False

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ONLINE, Need.LABELS})

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]
        require_count("repair_rounds", self.repair_rounds, at_least=0)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """LAF's, then repair."""
        repair = Phase(
            "repair", "fit", self.repair_rounds, Who.RETAIN, self.repair, self.cohort,
            fixed_cohort=True, mean=Part.MODEL,
        )  # fmt: skip
        wanted = self.repair_rounds and self.repair.labels > 0
        whole = super().phases(registry)  # type: ignore[safe-super]
        return [*whole, *([repair] if wanted else [])]

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """LAF's, and the model from before the request where the way back to it is closed."""
        begun = super().server_init(state, registry)
        return replace(begun, aux={**begun.aux, "original": state.weights}) if self.one_way else begun

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """The whole model for repair, else what LAF sends."""
        if phase.step == "fit":
            return {Part.MODEL: state.weights}
        return super().arrays(phase, state)  # type: ignore[safe-super]

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The mean of the repaired models, else what LAF makes of the replies."""
        if phase.step == "fit":
            (mean,) = replies
            repaired = mean.arrays[Part.MODEL]
            if self.one_way:
                now, origin = state.weights, state.aux["original"]
                repaired = remove_reverting_component(now, repaired, now, origin)
            return replace(state, weights=repaired)
        return super().aggregate(phase, state, replies)  # type: ignore[safe-super]


@dataclass(frozen=True)
class LafRepair(Repair, Laf):
    """Repair after LAF in closed form, whose way back is closed."""

    one_way: bool = True

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ONLINE, Need.LABELS, Need.LINEAR})


@dataclass(frozen=True)
class PublishedLafRepair(Repair, PublishedLaf):
    """Repair after LAF with the published losses."""


@dataclass(frozen=True)
class LafAdamRepair(Repair, LafAdam):
    """Repair after the Adam form of LAF."""
