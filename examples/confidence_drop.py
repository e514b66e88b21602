"""A measure of one's own: by how much the true class of forget rows became less probable.

From this repository's folder (`+` adds it to those that `evaluation` has anyway):

    PYTHONPATH=examples fedlaf --config-dir examples/conf +evaluation/measure=confidence_drop
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedlaf.evaluation import (
    Catalogue,
    EvaluationSplits,
    Group,
    Measure,
    MeasuredModel,
    MeasureFunction,
    Predictions,
    Sense,
)


@dataclass(frozen=True)
class ConfidenceDrop(MeasureFunction):
    """Mean over forget rows of p(label | original) - p(label | model), in points."""

    catalogue: ClassVar[Catalogue] = {
        "confidence_drop": Measure(
            "drop of confidence, forget rows", Group.MEMBERSHIP, Sense.ABSENCE, unit="points"
        )
    }

    def measure(
        self, found: Predictions, splits: EvaluationSplits, model: MeasuredModel
    ) -> Mapping[str, float]:
        """Nothing where there is no original model."""
        if "original" not in model.models:
            return {}
        labels = splits.forget.y.numpy()
        rows = np.arange(len(labels))
        before, now = (seen.forget[rows, labels] for seen in (model.models["original"], found))
        return {"confidence_drop": 100.0 * float((before - now).mean())}
