"""What is measured of a model, and how far it is from the retrained one."""

from fedlaf.evaluation import inside
from fedlaf.evaluation.attacks import likelihood_ratios, membership_attacks, sides_of
from fedlaf.evaluation.catalogue import CATALOGUE, Catalogue, Group, Measure, Sense
from fedlaf.evaluation.difference import difference_attack
from fedlaf.evaluation.evaluate import Evaluation, evaluate
from fedlaf.evaluation.information import InformationDifference
from fedlaf.evaluation.leakage import leakage
from fedlaf.evaluation.measure_function import MeasuredModel, MeasureFunction, catalogue_of, of_catalogue
from fedlaf.evaluation.measures import zero_retrain_forgetting
from fedlaf.evaluation.on_demand import Halves, HeadRelearn, KnowledgeOverlap, Layers, Probe, Relearn
from fedlaf.evaluation.predictions import Predictions, digest, predict, probabilities, represent
from fedlaf.evaluation.reconstruction import Reconstruction
from fedlaf.evaluation.retrain_spread import RetrainSpread, mean_spread, spread
from fedlaf.evaluation.splits import KINDS, EvaluationSplits, removed_classes, spaced, splits_for
from fedlaf.evaluation.verdict import Gate, Verdict, judged

__all__ = [
    "CATALOGUE",
    "KINDS",
    "Catalogue",
    "Evaluation",
    "EvaluationSplits",
    "Gate",
    "Group",
    "Halves",
    "HeadRelearn",
    "InformationDifference",
    "KnowledgeOverlap",
    "Layers",
    "Measure",
    "MeasureFunction",
    "MeasuredModel",
    "Predictions",
    "Probe",
    "Reconstruction",
    "Relearn",
    "RetrainSpread",
    "Sense",
    "Verdict",
    "catalogue_of",
    "difference_attack",
    "digest",
    "evaluate",
    "inside",
    "judged",
    "leakage",
    "likelihood_ratios",
    "mean_spread",
    "membership_attacks",
    "of_catalogue",
    "predict",
    "probabilities",
    "removed_classes",
    "represent",
    "sides_of",
    "spaced",
    "splits_for",
    "spread",
    "zero_retrain_forgetting",
]
