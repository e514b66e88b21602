"""Costly measures of what a model still holds inside, for those who ask: one class a file in conf/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from fedlaf.core.types import Weights
from fedlaf.evaluation import inside
from fedlaf.evaluation.catalogue import Catalogue, Group, Measure, Sense
from fedlaf.evaluation.measure_function import MeasuredModel, MeasureFunction
from fedlaf.evaluation.measures import accuracy
from fedlaf.evaluation.predictions import Predictions
from fedlaf.evaluation.splits import EvaluationSplits, spaced
from fedlaf.models import Classifier


@dataclass(frozen=True)
class Relearn(MeasureFunction):
    """Steps of training on the forget rows until the original's accuracy on them is back."""

    catalogue: ClassVar[Catalogue] = {
        "relearn_steps": Measure("steps to relearn", Group.INSIDE, Sense.ABSENCE)
    }

    def measure(
        self, found: Predictions, splits: EvaluationSplits, model: MeasuredModel
    ) -> Mapping[str, float]:
        """Nothing where there is no original model."""
        if "original" not in model.models:
            return {}
        target = inside.goal_of(model.models["original"].forget, splits.forget)
        return {"relearn_steps": inside.relearned(model.network(), model.weights, splits.forget, target)}


@dataclass(frozen=True)
class HeadRelearn(MeasureFunction):
    """Accuracy on forget rows once a new head has learned from 2 % of all rows, on frozen representations."""

    catalogue: ClassVar[Catalogue] = {
        "head_relearned": Measure("a new head, forgotten rows", Group.INSIDE, Sense.TRACE, unit="%")
    }

    def measure(
        self, found: Predictions, splits: EvaluationSplits, model: MeasuredModel
    ) -> Mapping[str, float]:
        """NaN with next to no rows."""
        rows = {"forget": splits.forget, "retain": splits.retain}
        return {"head_relearned": inside.head_relearned(model.network(), model.weights, rows)}


@dataclass(frozen=True)
class Probe(MeasureFunction):
    """Accuracy of a linear classifier on the frozen representations of forget rows."""

    catalogue: ClassVar[Catalogue] = {
        "probe_forget": Measure("linear probe, forgotten rows", Group.INSIDE, Sense.TRACE, unit="%")
    }

    def measure(
        self, found: Predictions, splits: EvaluationSplits, model: MeasuredModel
    ) -> Mapping[str, float]:
        """On the rows whose representations are kept."""
        forget, retain = (
            (found.represented[kind], rows.y.numpy()[spaced(len(rows), len(found.represented[kind]))])
            for kind, rows in (("forget", splits.forget), ("retain", splits.retain))
        )
        return {"probe_forget": inside.probed(*forget, others=retain[0], other_labels=retain[1])}


@dataclass(frozen=True)
class Layers(MeasureFunction):
    """CKA of each layer to the retrained model's; the lowest is the measure."""

    catalogue: ClassVar[Catalogue] = {
        "cka_forget": Measure("CKA to retrained, lowest layer", Group.INSIDE, Sense.LIKENESS, 4)
    }

    def arrays(
        self, network: Classifier, weights: Weights, splits: EvaluationSplits
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Gram matrices of the layers on forget rows."""
        return inside.grams(network, weights, splits.forget.x)

    def compare(
        self, found: Predictions, reference: Predictions, splits: EvaluationSplits
    ) -> Mapping[str, float]:
        """The lowest of all layers."""
        return {"cka_forget": min(inside.layers_alike(found.grams, reference.grams).values())}


@dataclass(frozen=True)
class KnowledgeOverlap(MeasureFunction):
    """Test accuracy on the class that the withdrawn client held alone (`unique`), on the one that it
    `shared`, and on all others: what was its own must go, what others know too must stay (Zhong et al.,
    CVPR 2025, table 2).
    """

    unique: int = 0
    shared: int = 1

    catalogue: ClassVar[Catalogue] = {
        "knowledge_unique": Measure(
            "accuracy, test rows of the unique class", Group.ACCURACY, Sense.TRACE, unit="%"
        ),
        "knowledge_shared": Measure(
            "accuracy, test rows of the shared class", Group.ACCURACY, Sense.UTILITY, unit="%"
        ),
        "knowledge_others": Measure(
            "accuracy, test rows of other classes", Group.ACCURACY, Sense.UTILITY, unit="%"
        ),
    }

    def measure(
        self, found: Predictions, splits: EvaluationSplits, model: MeasuredModel
    ) -> Mapping[str, float]:
        """NaN for a class without test rows."""
        labels = splits.test.y.numpy()
        kinds = {"unique": labels == self.unique, "shared": labels == self.shared}
        kinds["others"] = ~(kinds["unique"] | kinds["shared"])
        return {f"knowledge_{name}": accuracy(found.test[at], labels[at]) for name, at in kinds.items()}


@dataclass(frozen=True)
class Halves(MeasureFunction):
    """SDE: dependence between random halves of the forget rows' representations."""

    catalogue: ClassVar[Catalogue] = {
        "sde": Measure("SDE of split halves", Group.INSIDE, Sense.TRACE, 2, unit="1e-4 HSIC"),
        "sde_out": Measure(
            "SDE, splits like unseen rows", Group.INSIDE, Sense.ABSENCE, decides=False, unit="%"
        ),
    }

    def measure(
        self, found: Predictions, splits: EvaluationSplits, model: MeasuredModel
    ) -> Mapping[str, float]:
        """Nothing where a kind of rows has fewer than four."""
        return inside.split_halves(found.represented)
