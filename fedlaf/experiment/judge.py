"""A request's models measured: each predicted once, then held against the retrained one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from uuid import uuid4

import numpy.typing as npt

from fedlaf.client.runtime import device_of, measured_model
from fedlaf.core.seeding import seed_for
from fedlaf.core.types import ClientId, Weights
from fedlaf.evaluation import (
    Evaluation,
    EvaluationSplits,
    MeasuredModel,
    MeasureFunction,
    Predictions,
    RetrainSpread,
    Verdict,
    catalogue_of,
    difference_attack,
    digest,
    evaluate,
    judged,
    leakage,
    likelihood_ratios,
    membership_attacks,
    of_catalogue,
    predict,
    probabilities,
    sides_of,
    spread,
    zero_retrain_forgetting,
)
from fedlaf.evaluation.attacks import Sides
from fedlaf.evaluation.guards import guards
from fedlaf.evaluation.measures import Probabilities
from fedlaf.evaluation.splits import LABELLED
from fedlaf.experiment.checkpoints import CheckpointStore
from fedlaf.experiment.plan import Plan
from fedlaf.method.contract import StageResult
from fedlaf.report import RequestView, request_view, shown_rows

RETRAINED, REFERENCE = "retrained", "reference"
"""The model retrained from the run's seed, and the start of the names of those from reference seeds."""


@dataclass(frozen=True)
class Judgement:
    """What was measured of a request's models, the distances between retrainings, the verdict, and what
    the page shows.
    """

    models: Mapping[str, Evaluation]
    spread: RetrainSpread
    verdict: Verdict
    view: RequestView


@dataclass(frozen=True)
class Judge:
    """Measures the models of one request, by the clients `asked`, on its rows."""

    plan: Plan
    store: CheckpointStore
    name: str
    splits: EvaluationSplits
    asked: tuple[ClientId, ...] = ()
    seen: dict[str, Predictions] = field(default_factory=dict)

    def guarded(self, unlearned: StageResult, original: Weights) -> tuple[StageResult, bool]:
        """The stage with the findings that any method's result may have, and whether one stops the request;
        then it has the original weights.
        """
        weights = unlearned.weights
        before, after = self._predicted("original", original), self._predicted("unlearned", weights)
        found = tuple(guards(original, weights, before, after, self.splits))
        stopped = any(finding.fatal for finding in found)
        if stopped:
            del self.seen["unlearned"]
            weights = original
        return replace(unlearned, weights=weights, findings=(*unlearned.findings, *found)), stopped

    def judge(
        self, models: Mapping[str, Weights], noted: Mapping[str, Mapping[str, float]] | None = None
    ) -> Judgement:
        """The measures of all models but the retrainings from other seeds, and the verdict; with measures
        that were `noted` of a model while it was made.
        """
        seen = {model: self._predicted(model, weights) for model, weights in models.items()}
        retrained = [model for model in seen if model.startswith((RETRAINED, REFERENCE))]
        own = {model: self._own(model, seen, models) for model in seen}
        added, catalogue = self.plan.measures, catalogue_of(self.plan.measures)
        references = [(seen[m], Evaluation(own[m], catalogue=catalogue)) for m in retrained]
        scatter = spread(references, self.splits, added)
        reference = seen.get(RETRAINED)
        found = {}
        for model in (model for model in seen if not model.startswith(REFERENCE)):
            both = evaluate(seen[model], self.splits, reference, added=added)
            more = (noted or {}).get(model, {})
            found[model] = replace(both, measures={**both.measures, **own[model], **more})
        view = self._view({model: seen[model] for model in found}, models)
        return Judgement(found, scatter, judged(found, scatter, self.plan.gate), view)

    def _view(self, seen: Mapping[str, Predictions], models: Mapping[str, Weights]) -> RequestView:
        """What the page shows: each model on the rows that it draws."""
        shown = shown_rows(self.splits)
        network = measured_model(self.plan.spec)
        most = max(len(getattr(shown, kind)) for kind in LABELLED)

        def drawn(model: str) -> Predictions:
            return predict(network, models[model], shown, represented=most)

        return request_view(seen, self.splits, drawn, self.asked)

    def _own(
        self, model: str, seen: Mapping[str, Predictions], models: Mapping[str, Weights]
    ) -> dict[str, float]:
        """The measures that a model has by itself, or against models that none is held against."""
        found, sides = seen[model], self._sides
        own = dict(evaluate(found, self.splits, asr=self.plan.asr).measures)
        own |= membership_attacks(found, self.splits, sides)
        # Each is attacked with the same references; a reference itself, with the other retrainings.
        others = [m for m in seen if m != model and m.startswith(REFERENCE)]
        if model.startswith(REFERENCE):
            others += [RETRAINED]
        own |= likelihood_ratios(found, [seen[m] for m in others], self.splits, sides)
        original = seen.get("original")
        own |= leakage(found, original, self.splits, self.plan.most_rows)
        if original is not None:
            own |= difference_attack(original, found, self.splits, self.plan.most_rows)
        own["zrf"] = zero_retrain_forgetting(found.forget, self._untrained)
        measured = MeasuredModel(
            models[model], lambda: measured_model(self.plan.spec), seen, models.get("original")
        )
        for function in self.plan.measures:
            own |= of_catalogue(function, function.measure(found, self.splits, measured))
        return own

    def _predicted(self, model: str, weights: Weights) -> Predictions:
        """Predictions of a model; an earlier run's, unless it is one that this method made."""
        if model not in self.seen:
            self.seen[model] = self._made(weights) if model == "unlearned" else self._stored(model, weights)
        return self.seen[model]

    def _stored(self, model: str, weights: Weights) -> Predictions:
        taking = [f for f in self.plan.measures if type(f).arrays is not MeasureFunction.arrays]
        # What a user's own code took is not taken up: it may have changed since.
        of = [repr(f) if type(f).__module__.startswith("fedlaf.") else uuid4().hex for f in taking]
        asked = {"most_rows": self.plan.most_rows, "arrays": of}
        rows_and_weights = digest(weights, self.splits)
        fingerprint = self.plan.fingerprint("model", rows_and_weights=rows_and_weights, **asked)
        return self.store.predictions(f"{self.name}-{model}", fingerprint, lambda: self._made(weights))

    def _made(self, weights: Weights) -> Predictions:
        network = measured_model(self.plan.spec)
        found = predict(network, weights, self.splits, represented=self.plan.most_rows)
        taken: dict[str, npt.NDArray[Any]] = {}
        for function in self.plan.measures:
            taken |= function.arrays(network, weights, self.splits)
        return replace(found, grams=taken)

    @cached_property
    def _sides(self) -> Sides:
        return sides_of(self.splits, self.plan.most_rows)

    @cached_property
    def _untrained(self) -> Probabilities:
        """What a model that has learned nothing says of the forgotten rows."""
        network = self.plan.fresh(seed_for(self.plan.seed, "untrained"))
        return probabilities(network.to(device_of(self.plan.spec)), self.splits.forget.x)
