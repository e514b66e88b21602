"""The seam of measures: what a run measures beside the built-in ones, of the user's making or shipped."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from fedlaf.core.errors import require
from fedlaf.core.types import Weights
from fedlaf.evaluation.catalogue import CATALOGUE, Catalogue, in_order
from fedlaf.evaluation.predictions import Predictions
from fedlaf.evaluation.splits import EvaluationSplits
from fedlaf.models import Classifier


@dataclass(frozen=True)
class MeasuredModel:
    """What a measure may use of a model beside its predictions: its weights, a `network` to load them into,
    and the predictions of all `models` of the request (`original`, `unlearned`, `retrained`, and
    `reference-1` and so on from other seeds). `original` has the weights from before the request.
    """

    weights: Weights
    network: Callable[[], Classifier]
    models: Mapping[str, Predictions]
    original: Weights | None = None


class MeasureFunction(ABC):
    """One or more measures, chosen by `evaluation/measure=NAME`; `catalogue` says how each is shown, which
    way it points and whether it decides. A subclass overrides `measure`, or `compare` for distances.
    """

    catalogue: ClassVar[Catalogue]

    def measure(
        self, found: Predictions, splits: EvaluationSplits, model: MeasuredModel
    ) -> Mapping[str, float]:
        """Values by name that a model has by itself; it is then held against the retrained model's."""
        return {}

    def compare(
        self, found: Predictions, reference: Predictions, splits: EvaluationSplits
    ) -> Mapping[str, float]:
        """Values by name that two models have together: to the retrained model, and between retrainings."""
        return {}

    def arrays(
        self, network: Classifier, weights: Weights, splits: EvaluationSplits
    ) -> Mapping[str, npt.NDArray[Any]]:
        """What must be taken from the network for `compare`: found in `Predictions.grams`."""
        return {}


def catalogue_of(functions: Sequence[MeasureFunction]) -> Catalogue:
    """The built-in measures and those of `functions`, group by group.

    Raises InvalidValue for a name that two of them have.
    """
    whole = dict(CATALOGUE)
    for function in functions:
        for name, measure in function.catalogue.items():
            require(name not in whole, "evaluation.measure", "names that no other measure has", name)
            whole[name] = measure
    return in_order(whole)


def of_catalogue(function: MeasureFunction, values: Mapping[str, float]) -> dict[str, float]:
    """The values as they are. Raises InvalidValue for one that the function's catalogue does not name."""
    unknown = sorted(set(values) - set(function.catalogue))
    expected = f"values of {', '.join(function.catalogue)} alone from {type(function).__name__}"
    require(not unknown, "evaluation.measure", expected, unknown)
    return {name: float(value) for name, value in values.items()}
