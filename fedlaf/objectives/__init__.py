"""Objectives: tensors in, tensors out; the hyperparameters of methods, bound to the losses they set."""

from fedlaf.objectives.classification import Ascend, Distil, Fit, SparseFit
from fedlaf.objectives.gradients import (
    FedOsdGradients,
    Importance,
    LabelFreeImportance,
    Saliency,
    Unroll,
)
from fedlaf.objectives.laf import Forget, Noise, Represent
from fedlaf.objectives.laf_closed_form import ClosedForm
from fedlaf.objectives.laf_targets import Alignment, TargetRule
from fedlaf.objectives.logit_objectives import (
    DistilBoth,
    DistilForgotten,
    DistilHead,
    Hold,
    NegGrad,
    Push,
    Relabel,
    Shrink,
)
from fedlaf.objectives.perturbation import Smooth
from fedlaf.objectives.teachers import (
    AdversarialRelabel,
    RandomLabels,
    RandomTeacherLogits,
    TeacherLogits,
    VirtualTeacher,
)

__all__ = [
    "AdversarialRelabel",
    "Alignment",
    "Ascend",
    "ClosedForm",
    "Distil",
    "DistilBoth",
    "DistilForgotten",
    "DistilHead",
    "FedOsdGradients",
    "Fit",
    "Forget",
    "Hold",
    "Importance",
    "LabelFreeImportance",
    "NegGrad",
    "Noise",
    "Push",
    "RandomLabels",
    "RandomTeacherLogits",
    "Relabel",
    "Represent",
    "Saliency",
    "Shrink",
    "Smooth",
    "SparseFit",
    "TargetRule",
    "TeacherLogits",
    "Unroll",
    "VirtualTeacher",
]
