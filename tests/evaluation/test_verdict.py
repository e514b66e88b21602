"""The verdict: two-sided, against the largest distance between retrainings, and never without one."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fedlaf.core.errors import InvalidValue
from fedlaf.evaluation import (
    Evaluation,
    Gate,
    Halves,
    Layers,
    Probe,
    Relearn,
    RetrainSpread,
    catalogue_of,
    judged,
)
from fedlaf.evaluation.catalogue import Sense, distance
from fedlaf.evaluation.verdict import Word, word

NAN = float("nan")
WHOLE = catalogue_of((Relearn(), Probe(), Layers(), Halves()))
RETRAINED = {
    "accuracy_retain": 90.0, "accuracy_forget": 50.0, "accuracy_test": 85.0, "backdoor_success": 2.0,
    "js_retain": 0.0, "js_forget": 0.0, "js_test": 0.0, "tow": 1.0, "mia_trees_auc": 51.0, "zrf": 0.8,
}  # fmt: skip
ORIGINAL = RETRAINED | {
    "accuracy_forget": 70.0, "backdoor_success": 44.0, "js_retain": 0.006, "js_forget": 0.14,
    "js_test": 0.007, "tow": 0.8, "mia_trees_auc": 60.0, "zrf": 0.7,
}  # fmt: skip
PAIRS = (
    {"accuracy_retain": 0.5, "accuracy_forget": 2.0, "accuracy_test": 0.3, "backdoor_success": 1.0,
     "js_retain": 0.01, "js_forget": 0.02, "js_test": 0.01, "tow": 0.03, "mia_trees_auc": 1.0,
     "zrf": 0.02, "gap": 1.0},
    {"accuracy_retain": 0.1, "accuracy_forget": 3.0, "accuracy_test": 0.6, "backdoor_success": 0.5,
     "js_retain": 0.01, "js_forget": 0.03, "js_test": 0.01, "tow": 0.02, "mia_trees_auc": 2.0,
     "zrf": 0.01, "gap": 2.0},
)  # fmt: skip
CLOSE = RETRAINED | {"js_forget": 0.02, "js_retain": 0.01, "js_test": 0.01, "tow": 0.98}


def verdict(
    unlearned: dict[str, float], *, spread: Any = PAIRS, gate: Gate | None = None, **models: Any
) -> Any:
    found = {"original": ORIGINAL, "unlearned": unlearned, "retrained": RETRAINED} | models
    evaluations = {name: Evaluation(values) for name, values in found.items() if values is not None}
    return judged(evaluations, RetrainSpread(tuple(spread)), gate or Gate())


# ---- one measure


@pytest.mark.parametrize(
    ("name", "value", "reference", "limit", "expected"),
    [
        ("accuracy_forget", 53.0, 50.0, 3.0, Word.WITHIN),
        ("accuracy_forget", 47.0, 50.0, 3.0, Word.WITHIN),
        ("accuracy_forget", 53.1, 50.0, 3.0, Word.TOO_LITTLE),
        ("accuracy_forget", 46.9, 50.0, 3.0, Word.TOO_MUCH),
        ("backdoor_success", 0.0, 5.0, 3.0, Word.TOO_MUCH),
        ("mia_loss_auc", 40.0, 50.0, 3.0, Word.TOO_MUCH),
        ("zrf", 0.7, 0.8, 0.05, Word.TOO_LITTLE),
        ("zrf", 0.9, 0.8, 0.05, Word.TOO_MUCH),
        ("relearn_steps", 3.0, 9.0, 2.0, Word.TOO_LITTLE),
        ("accuracy_test", 80.0, 85.0, 3.0, Word.WORSE),
        ("accuracy_test", 90.0, 85.0, 3.0, Word.BETTER),
        ("js_forget", 0.02, 0.0, 0.02, Word.WITHIN),
        ("js_forget", 0.021, 0.0, 0.02, Word.APART),
        ("tow", 0.97, 1.0, 0.03, Word.WITHIN),
        ("tow", 0.96, 1.0, 0.03, Word.APART),
        ("accuracy_test", 85.0, 85.0, 0.0, Word.WITHIN),
        ("accuracy_test", 85.0, 85.0, NAN, Word.UNKNOWN),
    ],
)
def test_the_word_on_a_measure(
    name: str, value: float, reference: float, limit: float, expected: Word
) -> None:
    assert word(name, value, reference, limit, WHOLE) is expected


def test_every_measure_has_a_distance_that_is_zero_at_the_retrained_model() -> None:
    for name, measure in WHOLE.items():
        same = {Sense.DISTANCE: 0.0, Sense.LIKENESS: 1.0}.get(measure.sense, 37.5)
        assert distance(name, same, same, WHOLE) == 0


# ---- a request


def test_within_when_no_deciding_measure_is_further_than_the_largest_pair() -> None:
    found = verdict(CLOSE)
    assert found.outcome == ("within the spread of retrainings",)
    assert set(found.words.values()) == {Word.WITHIN}
    assert found.limits["accuracy_forget"] == 3
    assert found.limits["tow"] == 0.03
    assert found.distances["tow"] == pytest.approx(0.02)
    assert found.rho == pytest.approx(0.14 / 0.029)  # the 90th percentile of 0.02 and 0.03
    assert found.line == (
        "within the spread of retrainings: as close as retraining from another seed; 9 of 9 measures within; "
        "mean distance 0.0, retrainings 1.5, rho 4.8"
    )


def test_too_little_and_too_much_and_worse_are_all_failures_and_named() -> None:
    little = verdict(CLOSE | {"backdoor_success": 20.0})
    assert little.outcome == ("too little forgotten",)
    assert "too little forgotten (backdoor success)" in little.line
    assert "8 of 9 measures within" in little.line
    much = verdict(CLOSE | {"accuracy_forget": 20.0, "mia_trees_auc": 40.0})
    assert much.outcome == ("too much forgotten",)
    assert "too much forgotten (accuracy on forgotten rows, boosted trees)" in much.line
    both = verdict(CLOSE | {"accuracy_forget": 80.0, "accuracy_test": 60.0, "js_test": 0.5})
    assert both.outcome == ("too little forgotten", "worse utility", "elsewhere than retraining")


def test_better_utility_is_no_failure_and_measures_that_do_not_decide_do_not() -> None:
    found = verdict(CLOSE | {"accuracy_test": 89.0, "tow": 0.5})
    assert found.words["accuracy_test"] is Word.BETTER
    assert found.words["tow"] is Word.APART
    assert found.outcome == ("within the spread of retrainings",)


def test_doing_nothing_is_too_little() -> None:
    assert verdict(ORIGINAL).outcome[0] == "too little forgotten"


def test_without_reference_seeds_there_is_no_verdict_and_no_threshold_is_invented() -> None:
    for unlearned in (CLOSE, ORIGINAL):
        found = verdict(unlearned, spread=())
        assert found.outcome == ("no reference seeds",)
        assert set(found.words.values()) == {Word.UNKNOWN}
        assert "no verdict without reference seeds" in found.line
        assert math.isnan(found.rho)
    assert found.distances["backdoor_success"] == 42


def test_without_a_retrained_model_there_is_nothing_to_be_held_against() -> None:
    found = verdict(CLOSE, retrained=None)
    assert found.outcome == ("no reference",)
    assert not found.words


def test_rho_says_that_there_was_nothing_to_forget() -> None:
    found = verdict(CLOSE, original=CLOSE | {"js_forget": 0.02})
    assert found.outcome == ("nothing to forget", "within the spread of retrainings")
    assert found.rho <= 1
    assert "nothing to forget" in found.line


def test_a_trace_that_retrainings_lack_is_something_to_forget_whatever_rho_says() -> None:
    """Retrainings that scatter hide a backdoor in the divergence, not in its success."""
    found = verdict(CLOSE, original=CLOSE | {"js_forget": 0.02, "backdoor_success": 16.5})
    assert found.rho <= 1
    assert found.outcome == ("within the spread of retrainings",)
    assert "nothing to forget" not in found.line


def test_the_end_of_training_has_no_original() -> None:
    assert verdict(CLOSE, original=None).outcome == ("within the spread of retrainings",)


def test_a_measure_without_rows_has_no_word() -> None:
    found = verdict(CLOSE | {"backdoor_success": NAN, "mia_loss_auc": 50.0})
    assert "backdoor_success" not in found.words  # no value
    assert "mia_loss_auc" not in found.words  # the retrained model has none


# ---- the gate


@pytest.mark.parametrize(
    ("gate", "fault"),
    [
        (Gate(), None),
        (Gate(accuracy=90), "test accuracy 85.0 %, wanted 90 %"),
        (Gate(accuracy=0, below=5), "test accuracy 7.0 points below the retrained model's"),
    ],
)
def test_the_gate_marks_an_original_that_is_no_good(gate: Gate, fault: str | None) -> None:
    original = ORIGINAL | ({"accuracy_test": 78.0} if gate.below == 5 else {})
    found = verdict(CLOSE, original=original, gate=gate)
    assert found.gate == fault
    assert ("original no good" in found.outcome) == (fault is not None)
    assert fault is None or f"the original is no good ({fault})" in found.line


@pytest.mark.parametrize("wrong", [{"accuracy": 101}, {"accuracy": -1}, {"below": -0.5}, {"below": NAN}])
def test_a_gate_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidValue):
        Gate(**wrong)
