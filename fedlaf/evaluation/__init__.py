"""What is measured of a model, and how far it is from the retrained one."""

from fedlaf.evaluation.evaluate import (
    Evaluation,
    Predictions,
    Subjects,
    digest,
    evaluate,
    predict,
    subjects_of,
)
from fedlaf.evaluation.yardstick import yardstick

__all__ = [
    "Evaluation",
    "Predictions",
    "Subjects",
    "digest",
    "evaluate",
    "predict",
    "subjects_of",
    "yardstick",
]
