"""IDI: how much layers still tell of which rows were to be forgotten, on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlaf.core.types import Weights
from fedlaf.data import as_input
from fedlaf.evaluation.catalogue import Catalogue, Group, Measure, Sense
from fedlaf.evaluation.inside import load
from fedlaf.evaluation.measure_function import MeasuredModel, MeasureFunction
from fedlaf.evaluation.predictions import CHUNK, Predictions
from fedlaf.evaluation.splits import EvaluationSplits, spaced
from fedlaf.models import Classifier
from fedlaf.models.classifier import Seeded

ROWS = 600
"""Rows of each kind at most; one half learns the critic, the other is told apart."""
POOLED = 4
"""Places of a feature map a side, or of a sequence: a critic of more inputs than rows learns nothing."""
STEPS, RATE, DECAY, WIDTH = 150, 3e-3, 1e-2, 64
"""Of the critic: full-batch steps of AdamW, its hidden width."""
LEAST = 0.02
"""Bits by which the original must differ from the retrained model, else there is nothing to compare with."""
PREFIX = "information."


@dataclass(frozen=True)
class InformationDifference(MeasureFunction):
    """IDI: information in the layers on which rows are forgotten, beyond the retrained model's; 1 is the
    original.

    ID(m) = sum over the extractor's layers of max(0, I_m - I_retrained), IDI = ID(m) / ID(original) (the
    information difference index, AAAI 2026).
    """

    catalogue: ClassVar[Catalogue] = {
        "information_difference": Measure(
            "IDI (1 is the original)", Group.INSIDE, Sense.DISTANCE, 3, decides=False
        )
    }

    def arrays(
        self, network: Classifier, weights: Weights, splits: EvaluationSplits
    ) -> Mapping[str, npt.NDArray[Any]]:
        """The information in each layer of the extractor, in bits."""
        load(network, weights).eval()
        rows = min(ROWS, len(splits.forget), len(splits.retain))
        held = [kind.x[torch.from_numpy(spaced(len(kind), rows))] for kind in (splits.forget, splits.retain)]
        found = {}
        for name, layer in network.extractor.named_modules():
            if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear)):
                told = [pooled_outputs(network, layer, x) for x in held]
                found[f"{PREFIX}{name}"] = np.array([info_nce(*told)], np.float32)
        return found

    def measure(
        self, found: Predictions, splits: EvaluationSplits, model: MeasuredModel
    ) -> Mapping[str, float]:
        """Nothing without an original and a retrained model, or where these hardly differ."""
        if not {"original", "retrained"} <= set(model.models):
            return {}
        retrained = model.models["retrained"]
        whole = difference(model.models["original"], retrained)
        return {} if whole < LEAST else {"information_difference": difference(found, retrained) / whole}


def difference(found: Predictions, retrained: Predictions) -> float:
    """ID: the sum over layers of what they tell beyond the retrained model's, in bits."""
    layers = [name for name in found.grams if name.startswith(PREFIX)]
    return sum(max(0.0, float(found.grams[name][0] - retrained.grams[name][0])) for name in layers)


def info_nce(forget: Tensor, retain: Tensor) -> float:
    """InfoNCE estimate of I(Z; row is forgotten) in bits, 0 to 1, from features [N, D] of as many rows of
    both kinds: a critic is fitted on every second row, and the bound taken on the others (van den Oord et
    al., 2018).

    NaN with fewer than 8 rows of a kind.
    """
    if min(len(forget), len(retain)) < 8:
        return float("nan")
    z, y = torch.cat([forget, retain]).float(), torch.tensor([1] * len(forget) + [0] * len(retain))
    z = (z - z.mean(0)) / (z.std(0) + 1e-6)
    known, asked = torch.arange(len(y))[::2], torch.arange(len(y))[1::2]
    with Seeded(0), torch.enable_grad():
        critic = nn.Sequential(nn.Linear(z.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
        adam = torch.optim.AdamW(critic.parameters(), lr=RATE, weight_decay=DECAY)
        for _ in range(STEPS):
            adam.zero_grad()
            (-bound(critic(z[known]), y[known])).backward()
            adam.step()
    with torch.no_grad():
        return max(0.0, float(bound(critic(z[asked]), y[asked])) / log(2))


def bound(scores: Tensor, y: Tensor) -> Tensor:
    """Mean over rows of s(z, y) - log mean_j exp s(z, y_j), in nats, from scores [N, 2] of both answers and
    the answers [N] of the batch.
    """
    shares = functional.one_hot(y, 2).float().mean(0)
    return (scores.gather(1, y[:, None]).squeeze(1) - (scores + shares.log()).logsumexp(1)).mean()


@torch.no_grad()
def pooled_outputs(model: Classifier, layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer gives for rows [N, ...], means over places: [N, D]."""
    found: list[Tensor] = []
    device = next(model.parameters()).device
    hook = layer.register_forward_hook(lambda _m, _i, out: found.append(_pooled(out.float()).cpu()))
    for chunk in x.split(CHUNK):
        model(as_input(chunk, device))
    hook.remove()
    return torch.cat(found)


def _pooled(out: Tensor) -> Tensor:
    if out.dim() == 4:
        return functional.adaptive_avg_pool2d(out, min(POOLED, *out.shape[2:])).flatten(1)
    if out.dim() == 3:  # tokens [N, T, D]
        return functional.adaptive_avg_pool1d(out.transpose(1, 2), min(POOLED, out.shape[1])).flatten(1)
    return out.flatten(1)
