"""Resurfacing: where models go when training goes on without the forgotten rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedlaf.core.types import ClientId
from fedlaf.evaluation import Evaluation
from fedlaf.method.answers import busiest
from fedlaf.method.contract import StageResult
from fedlaf.report import Point

MODELS = ("original", "unlearned", "retrained")
"""The models that training goes on from; the original is what "just carry on" gives."""


def stage_name(request: str, model: str) -> str:
    """The stage in which training goes on from a model of a request."""
    return f"{request.replace('request', 'onward')}-{model}"


def distances(points: Mapping[str, Sequence[Point]]) -> dict[str, tuple[float, ...]]:
    """Mean distances to the retrained model after each further round, in points, of each other model; all
    have had as many further rounds.
    """
    reference = [Evaluation(point.measures) for point in points["retrained"]]
    return {
        model: tuple(
            Evaluation(point.measures).gap(held) for point, held in zip(there, reference, strict=True)
        )
        for model, there in points.items()
        if model != "retrained"
    }


def noted(
    stages: Mapping[str, StageResult], onward: Mapping[str, Sequence[float]], remaining: Sequence[ClientId]
) -> dict[str, dict[str, float]]:
    """Measures of models that come from how they were made, and from where training goes on from them."""
    found: dict[str, dict[str, float]] = {model: {} for model in MODELS}
    for model, stage in stages.items():
        most = busiest(stage.records, remaining)
        found[model] |= {} if most is None else {"fairness_passes": most}
    for model in found if onward else ():
        found[model]["resurfacing"] = onward[model][-1] if model in onward else 0.0
    return found
