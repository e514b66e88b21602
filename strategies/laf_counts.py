"""LAF in closed form with counted class shares: sums of the label histograms that clients noted in training.

Not label-agnostic in the strict sense, so an option of its own beside `forget=laf`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.models.arrays import as_tensors
from fedlaf.protocol.exact_sum import exact_sum
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base.phase import Phase, ServerState, Who
from fedlaf.strategies.laf import Laf


@dataclass(frozen=True)
class LafCounts(Laf):
    """One round for the histograms of all clients, then `Laf` with the shares that they say."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ONLINE, Need.LABELS, Need.LINEAR})

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Counts, then those of LAF."""
        counts = Phase("label_counts", "laf_label_counts", 1, Who.BOTH, self.rule)
        return [counts, *super().phases(registry)]

    def select_clients(self, phase: Phase, state: ServerState, clients: list[int]) -> list[int]:
        """Everybody for counts."""
        return clients if phase.name == "label_counts" else super().select_clients(phase, state, clients)

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """Nothing for counts."""
        return {} if phase.name == "label_counts" else super().arrays(phase, state)

    def config(self, phase: Phase, state: ServerState) -> Mapping[str, Any]:
        """The settings; for counts the number of classes."""
        if phase.name != "label_counts":
            return super().config(phase, state)
        *_, bias = state.weights.values()  # of the head's last layer
        return {"classes": len(bias)}

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """Counts are added up."""
        if phase.name != "label_counts":
            return super().aggregate(phase, state, replies)
        sums = as_tensors(exact_sum(reply.arrays[Part.STATISTICS] for reply in replies))
        return self._with(state, labels=sums["labels"])

    def shares(self, state: ServerState, sums: Mapping[str, Tensor]) -> Tensor:
        """The share of each class that remains [C]; 1 for a class that nobody holds."""
        remaining, forgotten = state.aux["labels"]
        whole: Tensor = remaining + forgotten
        shares: Tensor = remaining / whole.clamp_min(1)
        return shares.masked_fill(whole == 0, 1.0)
