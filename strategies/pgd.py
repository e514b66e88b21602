"""PGD (Halimi et al., 2022): the withdrawn client ascends its loss near a model that it is taken out of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch

from fedlaf.core.errors import require_count, require_number
from fedlaf.core.seeding import seed_for
from fedlaf.core.types import Weights
from fedlaf.core.weights import is_trainable, norm
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.objectives.classification import Ascend
from fedlaf.protocol.messages import Part
from fedlaf.strategies.base.aggregate import difference
from fedlaf.strategies.base.phase import Phase, ServerState, Who
from fedlaf.strategies.fine_tune import FineTune


@dataclass(frozen=True)
class Pgd(FineTune):
    """From theta_ref, the withdrawn clients take steps up their loss that stay within `radius` of it:
    that share of the mean distance of theta_ref to `draws` random models. Then `rounds` of averaging
    without them.
    """

    ascend: Ascend = field(default_factory=Ascend)
    radius: float = 1 / 3
    draws: int = 10

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WHOLE, Need.ONLINE, Need.LABELS, Need.LAST})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("radius", self.radius, above=0)
        require_count("draws", self.draws)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """The withdrawn clients' ascent, then averaging."""
        up = Phase("ascend", "ascend", 1, Who.FORGET, self.ascend, mean=Part.MODEL)
        return [up, *super().phases(registry)]

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """theta_ref, and how far the withdrawn clients may go from it."""
        history = state.inputs.require("history")
        # A client weighs what it trained: with a cohort, some took part more often than others, or never.
        rows = history.trained_rows()
        whole = sum(rows.values())
        last = [(rows.get(k, 0) / whole, history.last(k)) for k in registry.request.clients]
        reference = without(state.weights, [(share, model) for share, model in last if model is not None])
        seed, stage = state.aux["seed"], state.aux["stage"]
        seeds = [seed_for(seed, stage, "radius", draw) for draw in range(self.draws)]
        mean = mean_distance(reference, state.inputs.require("fresh"), seeds)
        return replace(state, weights=reference, aux={**state.aux, "radius": self.radius * mean})

    def config(self, phase: Phase, state: ServerState) -> Mapping[str, Any]:
        """The settings; with the radius for those who ascend."""
        told = super().config(phase, state)
        return {**told, "radius": state.aux["radius"]} if phase.step == "ascend" else told


def without(weights: Weights, withdrawing: Sequence[tuple[float, Weights]]) -> Weights:
    """(theta_T - sum_u p_u theta_u) / (1 - sum_u p_u): (K theta_T - theta_u) / (K - 1) for equal clients.

    Running statistics and counts stay those of theta_T: extrapolated, a variance may be negative.
    """
    rest = 1.0 - sum(share for share, _ in withdrawing)
    result = {}
    for name, array in weights.items():
        if not is_trainable(name, array):
            result[name] = array
            continue
        theirs = sum(
            (share * one[name].astype(np.float64) for share, one in withdrawing), np.zeros(array.shape)
        )
        result[name] = np.asarray((array - theirs) / rest).astype(array.dtype)
    return result


def mean_distance(
    reference: Weights, fresh: Callable[[int], torch.nn.Module], seeds: Sequence[int]
) -> float:  # fmt: skip
    """The mean Euclidean distance, over parameters, of a model to random ones."""
    distances = []
    for seed in seeds:
        drawn = {name: p.detach().cpu().numpy() for name, p in fresh(seed).named_parameters()}
        distances.append(norm(difference(drawn, reference)))
    return float(np.mean(distances))
