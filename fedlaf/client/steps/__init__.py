"""Client steps: what a client does in one phase of a method, one file a family."""

from fedlaf.client.steps import (
    densities,
    gradients,
    importances,
    laf_closed_form,
    laf_published,
    local_objectives,
    masked,
    projected_ascent,
    smoothing,
    sparse,
    targets,
    teachers,
    training,
)

__all__ = [
    "densities",
    "gradients",
    "importances",
    "laf_closed_form",
    "laf_published",
    "local_objectives",
    "masked",
    "projected_ascent",
    "smoothing",
    "sparse",
    "targets",
    "teachers",
    "training",
]
