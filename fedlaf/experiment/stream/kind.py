"""Which pipeline runs a plan."""

from __future__ import annotations

from fedlaf.experiment.pipeline import Pipeline
from fedlaf.experiment.plan import Plan
from fedlaf.experiment.stream.pipeline import StreamPipeline


def pipeline_of(plan: Plan) -> type[Pipeline]:
    """That of requests that are scheduled, or that of a stream."""
    return Pipeline if plan.stream is None else StreamPipeline
