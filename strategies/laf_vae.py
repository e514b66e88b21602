"""LAF in closed form with a VAE for h, as Shen et al. (ICLR 2024) have it.

Outliers are the rows that it reconstructs badly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from fedlaf.core.errors import require, require_count
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry
from fedlaf.models.arrays import as_tensors
from fedlaf.objectives import laf_closed_form
from fedlaf.objectives.laf import Represent
from fedlaf.objectives.laf_closed_form import unpacked
from fedlaf.protocol.exact_sum import exact_sum
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base.densities import averaged_density, initial_vae, with_density
from fedlaf.strategies.base.phase import Phase, ServerState
from fedlaf.strategies.laf import Laf


@dataclass(frozen=True)
class LafVae(Laf):
    """After features, `represent_rounds` in which remaining clients train h on the representations of their
    retain rows, averaged by rows, and one for how its reconstruction errors are distributed. Rows beyond
    their quantile are marked, all of one kind. Then `Laf`.
    """

    represent: Represent = field(default_factory=lambda: Represent(most_rows=None))
    represent_rounds: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("represent_rounds", self.represent_rounds)
        h = self.represent
        require(h.density == "vae", "represent.density", "vae; forget=laf has a Gaussian", h.density)
        require(h.rows == "retain", "represent.rows", "retain: the rows that h is asked about", h.rows)
        few = "null: rule.most_rows says how many rows a client uses"
        require(h.most_rows is None, "represent.most_rows", few, h.most_rows)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Features, the VAE and its threshold, then the others of LAF, which are told how h is built."""
        rule = with_density(self.rule, self.represent)
        features, *others = (replace(phase, settings=rule) for phase in super().phases(registry))
        learn = replace(
            features,
            name="represent",
            step="represent",
            rounds=self.represent_rounds,
            settings=self.represent,
        )
        ask = replace(features, name="thresholds", step="laf_thresholds")
        return [features, learn, ask, *(phase for phase in others if phase.name != "axes")]

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """H to learn or to ask for errors; beside what LAF sends where rows are marked."""
        h = {Part.VAE: state.aux["h"]} if phase.name != "features" else {}
        return h if phase.name in ("represent", "thresholds") else {**super().arrays(phase, state), **h}

    def config(self, phase: Phase, state: ServerState) -> Mapping[str, Any]:
        """The settings; with the error of outliers where it is known."""
        return {**super().config(phase, state), "threshold": state.aux.get("threshold", 0.0)}

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """The VAE becomes the mean of the clients', errors their quantile, all else as in LAF."""
        if phase.name == "represent":
            return averaged_density(state, replies, Part.VAE, "h")
        if phase.name == "thresholds":
            sums = as_tensors(exact_sum(reply.arrays[Part.STATISTICS] for reply in replies))
            found = laf_closed_form.error_threshold(sums["errors"], self.rule.outlier_quantile)
            return self._with(state, threshold=found)
        return super().aggregate(phase, state, replies)

    def _featured(self, sums: Mapping[str, Tensor], state: ServerState) -> dict[str, object]:
        moments = unpacked(sums["representations"]) / sums["representations"][-1]
        found = {"mean": moments[-1, :-1].numpy(), "mean_square": moments.diagonal()[:-1].numpy()}
        return {**super()._featured(sums, state), "h": initial_vae(self.represent, found, state)}
