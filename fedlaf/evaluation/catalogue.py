"""What each measure is called, how it is shown, and which way it points: the one list of all measures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from fedlaf.evaluation.attacks import ATTACKS, FIGURES


class Sense(StrEnum):
    """How a value is held against the retrained model's."""

    UTILITY = "higher is better"
    TRACE = "higher is less forgotten"
    ABSENCE = "higher is more forgotten"
    DISTANCE = "the value is a distance, 0 at the retrained model"
    LIKENESS = "1 at the retrained model"


class Group(StrEnum):
    """Parts of the table of measures."""

    ACCURACY = "accuracy"
    DISTANCE = "distance to retrained"
    MEMBERSHIP = "membership"
    INSIDE = "inside the model"


@dataclass(frozen=True)
class Measure:
    """One measure; a `brief` one is on the console too, all are in the files. `decides` says that the
    request's verdict counts it.
    """

    title: str
    group: Group
    sense: Sense
    digits: int = 1
    brief: bool = True
    decides: bool = True

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
FIGURE_TITLES = {"auc": "AUC (%)", "tpr": "TPR at 1 % FPR (%)", "accuracy": "accuracy (%)"}


def _attack(name: str, figure: str) -> Measure:
    title = f"{ATTACK_TITLES[name]}, {FIGURE_TITLES[figure]}"
    brief = figure == "auc" or (figure, name) == ("tpr", "trees")
    return Measure(title, Group.MEMBERSHIP, Sense.TRACE, brief=brief, decides=figure == "auc")


def _distance(title: str, digits: int, *, decides: bool, brief: bool = True) -> Measure:
    return Measure(title, Group.DISTANCE, Sense.DISTANCE, digits, brief, decides)


CATALOGUE: dict[str, Measure] = {
    "accuracy_retain": Measure("accuracy, remaining rows (%)", Group.ACCURACY, Sense.UTILITY),
    "accuracy_forget": Measure("accuracy, forgotten rows (%)", Group.ACCURACY, Sense.TRACE),
    "accuracy_test": Measure("accuracy, test rows (%)", Group.ACCURACY, Sense.UTILITY),
    "accuracy_test_kept": Measure("accuracy, test rows of kept classes (%)", Group.ACCURACY, Sense.UTILITY),
    "accuracy_test_removed": Measure(
        "accuracy, test rows of removed classes (%)", Group.ACCURACY, Sense.TRACE
    ),
    "backdoor_success": Measure("backdoor success (%)", Group.ACCURACY, Sense.TRACE),
    "js_retain": _distance("JS to retrained, remaining (bits)", 4, decides=True),
    "js_forget": _distance("JS to retrained, forgotten (bits)", 4, decides=True),
    "js_test": _distance("JS to retrained, test (bits)", 4, decides=True),
    "l2_retain": _distance("L2 of representations, remaining", 2, decides=False, brief=False),
    "l2_forget": _distance("L2 of representations, forgotten", 2, decides=False, brief=False),
    "l2_test": _distance("L2 of representations, test", 2, decides=False, brief=False),
    "tow": Measure("ToW (1 is retrained)", Group.DISTANCE, Sense.LIKENESS, 3, decides=False),
    "gap": _distance("mean distance to retrained (points)", 1, decides=False),
    "attack_success": Measure("membership attack, ASR (%)", Group.MEMBERSHIP, Sense.TRACE, decides=False),
    **{f"mia_{name}_{figure}": _attack(name, figure) for name, figure in product(ATTACKS, FIGURES)},
    "zrf": Measure("ZRF (likeness to untrained)", Group.INSIDE, Sense.ABSENCE, 4),
    "relearn_steps": Measure("steps to relearn", Group.INSIDE, Sense.ABSENCE),
    "probe_forget": Measure("linear probe, forgotten rows (%)", Group.INSIDE, Sense.TRACE),
    "cka_forget": Measure("CKA to retrained, lowest layer", Group.INSIDE, Sense.LIKENESS, 4),
    "sde": Measure("SDE of split halves (1e-4 HSIC)", Group.INSIDE, Sense.TRACE, 2),
    "sde_out": Measure("SDE, splits like unseen rows (%)", Group.INSIDE, Sense.ABSENCE, decides=False),
}
"""By name, in the order of the table."""


def distance(name: str, value: float, reference: float) -> float:
    """How far a model's `value` of a measure is from the retrained model's."""
    sense = CATALOGUE[name].sense
    if sense is Sense.DISTANCE:
        return value
    return 1.0 - value if sense is Sense.LIKENESS else abs(value - reference)
