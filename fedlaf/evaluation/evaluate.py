"""Weights and rows in, measures out: the simulator's view from outside the federation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isnan, nan

import numpy as np
import torch

from fedlaf.data import LabelledRows, Rows, as_input
from fedlaf.evaluation.measures import Probabilities, accuracy, backdoor_success, js_divergence
from fedlaf.evaluation.membership import attack_success
from fedlaf.federation import Federation
from fedlaf.models import Classifier
from fedlaf.request import ForgetRequest
from fedlaf.types import Weights

CHUNK = 500

KINDS = ("retained", "forgotten", "test", "triggered")
"""The kinds of rows that are predicted; there may be no triggered ones."""


@dataclass(frozen=True)
class Subjects:
    """The rows that models are measured on; `triggered` are test rows with the trigger, or None,
    `removed` the classes of which no row remains.
    """

    retained: LabelledRows
    forgotten: LabelledRows
    test: LabelledRows
    triggered: Rows | None = None
    target: int = -1
    removed: tuple[int, ...] = ()

    def some(self, rows: int) -> Subjects:
        """At most the first `rows` of each kind: enough for a curve."""
        few = torch.arange(rows)
        triggered = self.triggered and self.triggered.at(few[: len(self.triggered)])
        kinds = [r.at(few[: len(r)]) for r in (self.retained, self.forgotten, self.test)]
        return replace(self, retained=kinds[0], forgotten=kinds[1], test=kinds[2], triggered=triggered)


@dataclass(frozen=True)
class Predictions:
    """Class probabilities [N, C] of one model on each kind of rows."""

    retained: Probabilities
    forgotten: Probabilities
    test: Probabilities
    triggered: Probabilities | None = None


def digest(weights: Weights, subjects: Subjects) -> str:
    """A hash of all that predictions depend on, but for the network's structure."""
    found = hashlib.sha256()
    kinds = {name: getattr(subjects, name) for name in KINDS}
    rows = {name: kind.x.numpy() for name, kind in kinds.items() if kind is not None}
    for name, array in (*weights.items(), *rows.items()):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Evaluation:
    """Named measures of one model: accuracies and backdoor success in percent, JS in bits."""

    measures: Mapping[str, float]

    def gap(self, reference: Evaluation) -> float:
        """Mean absolute distance to `reference` in points, over what both have in percent.

        NaN when they share nothing.
        """
        pairs = [(self.measures.get(n, nan), reference.measures.get(n, nan)) for n in PERCENT]
        apart = [abs(one - other) for one, other in pairs if not isnan(one - other)]
        return sum(apart) / len(apart) if apart else nan


PERCENT = ("accuracy_retained", "accuracy_forgotten", "accuracy_test", "backdoor_success", "attack_success")


def subjects_of(federation: Federation, request: ForgetRequest, gone: ForgetRequest) -> Subjects:
    """The rows of a request's measurement: what it forgets, what remains, and the test set.

    Rows `gone` in earlier requests are in neither.
    """
    retained, forgotten = [], []
    for k in range(len(federation)):
        data = federation.client(k)
        asked = request.of(k)
        if asked:
            forgotten.append(data.rows.at(torch.tensor(asked)))
        kept = data.labelled(sorted({*asked, *gone.of(k)}))
        if len(kept):
            retained.append(kept)
    test = federation.dataset.test
    triggered, target = None, -1
    if federation.trigger is not None:
        target = federation.trigger.target
        triggered = Rows(federation.trigger.applied(test.x[test.y != target]))
    near, far = _joined(retained), _joined(forgotten)
    return Subjects(near, far, test, triggered, target, removed_classes(near, far))


def removed_classes(retained: LabelledRows, forgotten: LabelledRows) -> tuple[int, ...]:
    """The classes of forgotten rows of which no row remains, in their order."""
    return tuple(np.setdiff1d(forgotten.y.numpy(), retained.y.numpy()).tolist())


@torch.no_grad()
def predict(model: Classifier, weights: Weights, subjects: Subjects) -> Predictions:
    """Load `weights` into `model` and predict all subjects, in evaluation mode."""
    model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    model.eval()
    return Predictions(
        _probabilities(model, subjects.retained.x),
        _probabilities(model, subjects.forgotten.x),
        _probabilities(model, subjects.test.x),
        None if subjects.triggered is None else _probabilities(model, subjects.triggered.x),
    )


def evaluate(
    found: Predictions, subjects: Subjects, reference: Predictions | None = None, *, asr: str | None = None
) -> Evaluation:
    """The measures of one model; divergences only where there is a reference, ASR only where a
    protocol for it is named.
    """
    measures = {
        "accuracy_retained": accuracy(found.retained, subjects.retained.y.numpy()),
        "accuracy_forgotten": accuracy(found.forgotten, subjects.forgotten.y.numpy()),
        "accuracy_test": accuracy(found.test, subjects.test.y.numpy()),
    }
    if found.triggered is not None:
        measures["backdoor_success"] = backdoor_success(found.triggered, subjects.target)
    measures |= _by_removed_class(found, subjects)
    if asr is not None:
        measures["attack_success"] = attack_success(found.retained, found.forgotten, found.test, asr)
    if reference is not None:
        for kind in ("retained", "forgotten", "test"):
            divergence = js_divergence(getattr(found, kind), getattr(reference, kind))
            measures[f"js_{kind}"] = divergence
    return Evaluation(measures)


def _by_removed_class(found: Predictions, subjects: Subjects) -> dict[str, float]:
    """Where whole classes are forgotten: test accuracy without them, and on them."""
    labels = subjects.test.y.numpy()
    on = np.isin(labels, subjects.removed)
    if not on.any():
        return {}
    return {
        "accuracy_test_kept": accuracy(found.test[~on], labels[~on]),
        "accuracy_test_removed": accuracy(found.test[on], labels[on]),
    }


def _probabilities(model: Classifier, x: torch.Tensor) -> Probabilities:
    device = next(model.parameters()).device
    parts = [model(as_input(chunk, device)).logits.softmax(1) for chunk in x.split(CHUNK) if len(chunk)]
    if not parts:
        return np.empty((0, 1))
    return torch.cat(parts).double().cpu().numpy()


def _joined(parts: list[LabelledRows]) -> LabelledRows:
    if not parts:
        raise ValueError("a measurement needs at least one row of each kind")
    return LabelledRows(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]))
