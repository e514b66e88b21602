"""What each measure is called, how it is shown, and which way it points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from fedlaf.evaluation.attacks import ATTACKS, FIGURES
from fedlaf.evaluation.difference import DIFFERENCES


class Sense(StrEnum):
    """How a value is held against the retrained model's."""

    UTILITY = "higher is better"
    TRACE = "higher is less forgotten"
    ABSENCE = "higher is more forgotten"
    DISTANCE = "the value is a distance, 0 at the retrained model"
    LIKENESS = "1 at the retrained model"
    HARM = "higher is worse"


class Group(StrEnum):
    """Parts of the table of measures."""

    ACCURACY = "accuracy"
    DISTANCE = "distance to retrained"
    MEMBERSHIP = "membership"
    OTHERS = "those who remain"
    INSIDE = "inside the model"


@dataclass(frozen=True)
class Measure:
    """How one measure is shown, in which `unit`, and which way it points; a `brief` one is on the console
    too, all are in the files. `decides` says that the request's verdict counts it.
    """

    title: str
    group: Group
    sense: Sense
    digits: int = 1
    brief: bool = True
    decides: bool = True
    unit: str = ""

    @property
    def label(self) -> str:
        """Title and unit, as in a table."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def short(self) -> str:
        """The title as part of a sentence."""
        return self.title.partition(" (")[0].removesuffix(", AUC").replace(", ", " on ", 1)


ATTACK_TITLES = {
    "loss": "loss attack",
    "entropy": "entropy attack",
    "confidence": "confidence attack",
    "trees": "boosted trees",
    "rmia": "RMIA",
}
DIFFERENCE_TITLES = {"loss": "loss", "js": "divergence", "trees": "boosted trees"}
FIGURE_TITLES = {"auc": "AUC", "tpr": "TPR at 1 % FPR", "accuracy": "accuracy"}


def _attack(name: str, figure: str) -> Measure:
    title = f"{ATTACK_TITLES[name]}, {FIGURE_TITLES[figure]}"
    brief = figure == "auc" or (figure, name) == ("tpr", "trees")
    return Measure(title, Group.MEMBERSHIP, Sense.TRACE, brief=brief, decides=figure == "auc", unit="%")


def _difference(name: str, figure: str) -> Measure:
    title = f"difference attack ({DIFFERENCE_TITLES[name]}), {FIGURE_TITLES[figure]}"
    brief = (name, figure) == ("trees", "auc")
    return Measure(title, Group.MEMBERSHIP, Sense.TRACE, brief=brief, decides=False, unit="%")


def _of_others(title: str, unit: str, *, brief: bool = False) -> Measure:
    return Measure(title, Group.OTHERS, Sense.DISTANCE, brief=brief, decides=False, unit=unit)


def _harm(title: str, *, brief: bool = False) -> Measure:
    return Measure(title, Group.OTHERS, Sense.HARM, brief=brief, decides=False, unit="%")


def _distance(title: str, digits: int, *, decides: bool, brief: bool = True, unit: str = "") -> Measure:
    return Measure(title, Group.DISTANCE, Sense.DISTANCE, digits, brief, decides, unit)


def _percent(title: str, group: Group, sense: Sense, *, decides: bool = True) -> Measure:
    return Measure(title, group, sense, decides=decides, unit="%")


Catalogue = Mapping[str, Measure]
"""Measures by name."""


CATALOGUE: Catalogue = {
    "accuracy_retain": _percent("accuracy, remaining rows", Group.ACCURACY, Sense.UTILITY),
    "accuracy_forget": _percent("accuracy, forgotten rows", Group.ACCURACY, Sense.TRACE),
    "accuracy_test": _percent("accuracy, test rows", Group.ACCURACY, Sense.UTILITY),
    "accuracy_test_kept": _percent("accuracy, test rows of kept classes", Group.ACCURACY, Sense.UTILITY),
    "accuracy_test_removed": _percent("accuracy, test rows of removed classes", Group.ACCURACY, Sense.TRACE),
    "backdoor_success": _percent("backdoor success", Group.ACCURACY, Sense.TRACE),
    "js_retain": _distance("JS to retrained, remaining", 4, decides=True, unit="bits"),
    "js_forget": _distance("JS to retrained, forgotten", 4, decides=True, unit="bits"),
    "js_test": _distance("JS to retrained, test", 4, decides=True, unit="bits"),
    "l2_retain": _distance("L2 of representations, remaining", 2, decides=False, brief=False),
    "l2_forget": _distance("L2 of representations, forgotten", 2, decides=False, brief=False),
    "l2_test": _distance("L2 of representations, test", 2, decides=False, brief=False),
    "tow": Measure("ToW (1 is retrained)", Group.DISTANCE, Sense.LIKENESS, 3, decides=False),
    "resurfacing": _distance("mean distance after more rounds", 1, decides=False, unit="points"),
    "gap": _distance("mean distance to retrained", 1, decides=False, unit="points"),
    "attack_success": _percent("membership attack, ASR", Group.MEMBERSHIP, Sense.TRACE, decides=False),
    **{f"mia_{name}_{figure}": _attack(name, figure) for name, figure in product(ATTACKS, FIGURES)},
    **{f"difference_{n}_{f}": _difference(n, f) for n, f in product(DIFFERENCES, FIGURES[:2])},
    "fairness_worst": _of_others("largest loss of a client", "points", brief=True),
    "fairness_deviation": _of_others("deviation over clients", "points"),
    "fairness_below": _of_others("clients that lose over 2 points", "%"),
    "fairness_passes": Measure(
        "passes of the busiest client over the mean", Group.OTHERS, Sense.HARM, 2, brief=False, decides=False
    ),
    "leakage_auc": _harm("leakage of remaining rows, AUC", brief=True),
    "leakage_tpr": _harm("leakage of remaining rows, TPR at 1 % FPR"),
    "leakage_new": _harm("remaining rows newly given away"),
    "zrf": Measure("ZRF (likeness to untrained)", Group.INSIDE, Sense.ABSENCE, 4),
}
"""The measures of every run by name, in the order of the table; `MeasureFunction` adds others to one run."""


def in_order(catalogue: Catalogue) -> Catalogue:
    """The same measures, group by group."""
    order = list(Group)
    return dict(sorted(catalogue.items(), key=lambda item: order.index(item[1].group)))


def distance(name: str, value: float, reference: float, catalogue: Catalogue = CATALOGUE) -> float:
    """How far a model's `value` of a measure is from the retrained model's."""
    sense = catalogue[name].sense
    if sense is Sense.DISTANCE:
        return value
    return 1.0 - value if sense is Sense.LIKENESS else abs(value - reference)
