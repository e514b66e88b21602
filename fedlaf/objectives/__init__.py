"""Objectives: tensors in, tensors out; the hyperparameters of methods, bound to the losses they set."""

from fedlaf.objectives.classification import Ascend, Distil, Fit
from fedlaf.objectives.gradients import FedOsdGradients, Unroll
from fedlaf.objectives.laf import Forget, Noise, Represent
from fedlaf.objectives.laf_closed_form import ClosedForm
from fedlaf.objectives.laf_targets import Alignment, TargetRule
from fedlaf.objectives.logit_objectives import (
    AdversarialRelabel,
    DistilBoth,
    Hold,
    NegGrad,
    Push,
    RandomTeacherLogits,
    Shrink,
    TeacherLogits,
)

__all__ = [
    "AdversarialRelabel",
    "Alignment",
    "Ascend",
    "ClosedForm",
    "Distil",
    "DistilBoth",
    "FedOsdGradients",
    "Fit",
    "Forget",
    "Hold",
    "NegGrad",
    "Noise",
    "Push",
    "RandomTeacherLogits",
    "Represent",
    "Shrink",
    "TargetRule",
    "TeacherLogits",
    "Unroll",
]
