"""The verdict: is the unlearned model as close to the retrained one as retrainings are to each other?

Two-sided, and without an absolute threshold: what counts is the largest distance between retrainings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isnan, nan

from fedlaf.core.errors import require_number
from fedlaf.evaluation.catalogue import CATALOGUE, Catalogue, Sense, distance
from fedlaf.evaluation.evaluate import Evaluation
from fedlaf.evaluation.measures import rho
from fedlaf.evaluation.retrain_spread import RetrainSpread

NOTHING_TO_FORGET = "nothing to forget"

ROUNDING = 1e-9


class Word(StrEnum):
    """The verdict on one measure."""

    WITHIN = "within"
    TOO_LITTLE = "too little"
    TOO_MUCH = "too much"
    WORSE = "worse"
    BETTER = "better"
    APART = "apart"
    UNKNOWN = "no reference seeds"


SIDES = {
    Sense.UTILITY: (Word.BETTER, Word.WORSE),
    Sense.TRACE: (Word.TOO_LITTLE, Word.TOO_MUCH),
    Sense.ABSENCE: (Word.TOO_MUCH, Word.TOO_LITTLE),
    Sense.HARM: (Word.WORSE, Word.BETTER),
}
"""What a value above, and one below the retrained model's is called; a distance has no sides."""

FAILURES = {
    Word.TOO_LITTLE: "too little forgotten",
    Word.TOO_MUCH: "too much forgotten",
    Word.WORSE: "worse utility",
    Word.APART: "elsewhere than retraining",
}


@dataclass(frozen=True)
class Gate:
    """When an original model is no good: `accuracy` percent of the test rows, or `below` points less
    than the retrained model.
    """

    accuracy: float = 50.0
    below: float = 10.0

    def __post_init__(self) -> None:
        require_number("accuracy", self.accuracy, at_least=0, at_most=100)
        require_number("below", self.below, at_least=0)

    def fault(self, original: float, retrained: float) -> str | None:
        """Why the original is no good, by test accuracies in percent; None for a good one."""
        if original < self.accuracy:
            return f"test accuracy {original:.1f} %, wanted {self.accuracy:g} %"
        if retrained - original > self.below:
            return f"test accuracy {retrained - original:.1f} points below the retrained model's"
        return None


@dataclass(frozen=True)
class Verdict:
    """Of one request: what it comes to, a word and a distance by measure, and all in a line.

    `limits` has the largest distance between retrainings by measure; `rho` is the divergence of the original
    over that between retrainings; `gate` says why the original is no good.
    """

    outcome: tuple[str, ...]
    line: str
    words: Mapping[str, Word] = field(default_factory=dict)
    distances: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    rho: float = nan
    gate: str | None = None


def judged(models: Mapping[str, Evaluation], spread: RetrainSpread, gate: Gate) -> Verdict:
    """The verdict on the unlearned model, from the measures of all."""
    unlearned, retrained = models["unlearned"], models.get("retrained")
    if retrained is None:
        return Verdict(("no reference",), "no verdict: there is no retrained model to be held against")
    original = models.get("original")
    limits = spread.largest
    values = {**unlearned.measures, "gap": unlearned.gap(retrained)}
    known, catalogue = retrained.measures, unlearned.catalogue
    distances = {name: distance(name, v, known.get(name, nan), catalogue) for name, v in values.items()}

    def worded(values: Mapping[str, float]) -> dict[str, Word]:
        return {
            name: word(name, value, known.get(name, nan), limits.get(name, nan), catalogue)
            for name, value in values.items()
            # What retrainings were not measured by has no word beside what they were.
            if not isnan(distance(name, value, known.get(name, nan), catalogue))
            and (not limits or name in limits)
        }

    words = worded(values)
    fault, there_was, nothing = None, nan, False
    if original is not None:
        fault = gate.fault(original.measures["accuracy_test"], known["accuracy_test"])
        there_was = rho(original.measures["js_forget"], spread.of("js_forget"))
        # Retrainings may scatter so much that a mark which is plainly there drowns in the divergence.
        left = _deciding(worded(original.measures), Word.TOO_LITTLE, catalogue)
        nothing = there_was <= 1 and not left
    outcome = outcomes(words, fault, catalogue, nothing=nothing)
    gaps = distances["gap"], spread.mean.get("gap", nan)
    line = _line(words, there_was, fault, gaps, catalogue, nothing=nothing)
    return Verdict(outcome, line, words, distances, limits, there_was, fault)


def word(name: str, value: float, reference: float, limit: float, catalogue: Catalogue = CATALOGUE) -> Word:
    """The verdict on one measure; `limit` is the largest distance between retrainings, NaN for none."""
    if isnan(limit):
        return Word.UNKNOWN
    if distance(name, value, reference, catalogue) <= limit + ROUNDING:
        return Word.WITHIN
    higher, lower = SIDES.get(catalogue[name].sense, (Word.APART, Word.APART))
    return higher if value > reference else lower


def outcomes(
    words: Mapping[str, Word], fault: str | None, catalogue: Catalogue = CATALOGUE, *, nothing: bool = False
) -> tuple[str, ...]:
    """What a request comes to; several things may have gone wrong at once."""
    said = ["original no good"] if fault else []
    if all(w is Word.UNKNOWN for w in words.values()):
        return (*said, "no reference seeds")
    if nothing:
        said.append(NOTHING_TO_FORGET)
    failed = [text for kind, text in FAILURES.items() if _deciding(words, kind, catalogue)]
    return (*said, *(failed or ["within the spread of retrainings"]))


def _deciding(words: Mapping[str, Word], kind: Word, catalogue: Catalogue) -> list[str]:
    return [name for name, found in words.items() if found is kind and catalogue[name].decides]


def _line(
    words: Mapping[str, Word], there_was: float, fault: str | None, gaps: tuple[float, float],
    catalogue: Catalogue, *, nothing: bool,
) -> str:  # fmt: skip
    parts = [f"the original is no good ({fault}), so this says little"] if fault else []
    if all(w is Word.UNKNOWN for w in words.values()):
        parts.append(
            "no verdict without reference seeds (evaluation.reference_seeds=2 gives one); "
            f"mean distance {gaps[0]:.1f}"
        )
        return "; ".join(parts)
    if nothing:
        parts.append("there was nothing to forget (the original is no further off than a retraining)")
    failed = {text: _deciding(words, kind, catalogue) for kind, text in FAILURES.items()}
    failed = {text: names for text, names in failed.items() if names}
    parts += [f"{text} ({', '.join(catalogue[n].short for n in names)})" for text, names in failed.items()]
    if not failed:
        parts.append("within the spread of retrainings: as close as retraining from another seed")
    counted = [name for name, found in words.items() if catalogue[name].decides]
    within = sum(words[name] in (Word.WITHIN, Word.BETTER) for name in counted)
    note = (
        f"{within} of {len(counted)} measures within; mean distance {gaps[0]:.1f}, retrainings {gaps[1]:.1f}"
    )
    return "; ".join([*parts, note if isnan(there_was) else f"{note}, rho {there_was:.1f}"])
