"""Objectives: tensors in, tensors out; the hyperparameters of methods, bound to the losses they set."""

from fedlaf.objectives.classification import Ascend, Distil, Fit
from fedlaf.objectives.laf import Forget, Noise, Represent
from fedlaf.objectives.laf_targets import Aim, Align
from fedlaf.objectives.logit_objectives import (
    Cross,
    DistilBoth,
    Hold,
    Mislead,
    NegGrad,
    Oppose,
    Push,
    Recall,
    Shrink,
    Unroll,
)

__all__ = [
    "Aim",
    "Align",
    "Ascend",
    "Cross",
    "Distil",
    "DistilBoth",
    "Fit",
    "Forget",
    "Hold",
    "Mislead",
    "NegGrad",
    "Noise",
    "Oppose",
    "Push",
    "Recall",
    "Represent",
    "Shrink",
    "Unroll",
]
