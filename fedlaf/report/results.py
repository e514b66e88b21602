"""The results of a run's requests, as values, and the names of what is reported of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan

import numpy as np
import numpy.typing as npt

from fedlaf.core.cost import Cost
from fedlaf.evaluation import Evaluation, Verdict
from fedlaf.evaluation.catalogue import CATALOGUE, Catalogue
from fedlaf.method.answers import Answers
from fedlaf.method.contract import Finding
from fedlaf.report.view import RequestView

MODELS = ("original", "unlearned", "retrained")

MEASURES = {name: measure.label for name, measure in CATALOGUE.items()}

COSTS = {
    "passes": "client passes over samples",
    "gradient_passes": "  of these with gradient",
    "forward_passes": "  of these forward only",
    "bytes_down": "bytes down",
    "bytes_up": "bytes up",
    "client_seconds": "client seconds",
    "labels_read": "labels read",
    "rows_read": "different rows read",
    "retain_rows_read": "  of these remaining",
    "forget_rows_read": "  of these to be forgotten",
    "rounds": "rounds",
    "bytes_stored": "bytes stored on the server",
    "client_memory": "peak memory, largest client (MB)",
    "gpu_memory": "peak GPU memory, largest client (MB)",
    "driver_memory": "peak memory, server (MB)",
}
IF_ANY = ("bytes_stored", "gpu_memory")
"""Costs that are shown only where there are any."""


@dataclass(frozen=True)
class Point:
    """One point of a curve: after `passes` client passes of its stage.

    `by_class` has the accuracy on each class by kind of rows, NaN where a class has none (which is why it is
    not compared), `represented` the representations [N, D] of the forgotten rows that the page draws.
    """

    stage: str
    round: int
    passes: float
    measures: Mapping[str, float]
    by_class: Mapping[str, tuple[float, ...]] = field(default_factory=dict, compare=False)
    represented: npt.NDArray[np.float16] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RequestResult:
    """One request: when it came, whom it concerned, how models compare, what it cost.

    `costs` are those of the forgetting (`unlearned`) and of the retraining (`retrained`). `findings`
    is what the method noticed; when it `stopped`, the unlearned model is the original one.
    `spread` has each measure's mean distance between retrainings of other seeds, if asked for.
    `took_part` has the clients that answered at least once, for forgetting and for retraining; `stages` the
    saved stage that each model's weights come from; `view` what only the page shows;
    `onward` has the mean distances to the retrained model where training went on from it and from the others.
    """

    name: str
    round: int
    clients: tuple[int, ...]
    rows: int
    withdrawn: tuple[int, ...]
    models: Mapping[str, Evaluation]
    costs: Mapping[str, Cost]
    answers: Answers = field(default_factory=Answers)
    findings: tuple[Finding, ...] = ()
    stopped: bool = False
    spread: Mapping[str, float] = field(default_factory=dict)
    verdict: Verdict | None = None
    took_part: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    view: RequestView = field(default_factory=RequestView, compare=False)
    onward: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def catalogue(self) -> Catalogue:
        """What its measures are: those of every run, and those that were added to this one."""
        return next((evaluation.catalogue for evaluation in self.models.values()), CATALOGUE)

    def measure(self, name: str, model: str) -> float | None:
        """A measure of a model, `gap` computed here; None where there is none."""
        evaluation = self.models.get(model)
        if evaluation is None:
            return None
        if name == "gap":
            reference = self.models.get("retrained")
            return None if reference is None else evaluation.gap(reference)
        return evaluation.measures.get(name)

    def cost(self, name: str, model: str) -> float | None:
        """A cost of a stage; None where that stage was not run."""
        cost = self.costs.get(model)
        return None if cost is None else float(getattr(cost, name))

    def share(self, name: str) -> float | None:
        """The forgetting's cost as a percentage of the retraining's."""
        spent, whole = self.cost(name, "unlearned"), self.cost(name, "retrained")
        return None if spent is None or not whole else 100.0 * spent / whole


def or_none(value: float | None) -> float | None:
    """A number for a file: None, which JSON has, for NaN, which it has not."""
    return None if value is None or isnan(value) else value
