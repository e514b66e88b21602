"""Which pipeline runs a plan."""

from __future__ import annotations

from fedlaf.experiment.each_client import EachClientRun
from fedlaf.experiment.pipeline import Pipeline
from fedlaf.experiment.plan import Plan
from fedlaf.experiment.stream.pipeline import StreamPipeline


def pipeline_of(plan: Plan) -> type[Pipeline]:
    """That of requests that are scheduled, of each client in turn, or of a stream."""
    if plan.stream is not None:
        return StreamPipeline
    return EachClientRun if plan.alternatives else Pipeline
