"""The verdict as a sentence that a person understands who does not know the measures."""

from __future__ import annotations

from math import isnan

from fedlaf.evaluation import Verdict
from fedlaf.evaluation.catalogue import Catalogue
from fedlaf.evaluation.verdict import NOTHING_TO_FORGET, Word
from fedlaf.report.results import RequestResult

STOPPED = "The request was not served: the method stopped, and the model is the one from before it."
NO_REFERENCE = "There is no verdict: no model was retrained without the rows."
NO_GOOD = "The original model is too weak for this comparison to say much."
NOTHING = "There was nothing to forget: the original model is already like a retrained one."
WITHIN = (
    "Forgotten: the unlearned model is as close to the retrained one as models retrained from different "
    "seeds are to each other."
)
REASONS = {
    Word.TOO_LITTLE: "too little forgotten by",
    Word.TOO_MUCH: "too much forgotten by",
    Word.WORSE: "worse in",
    Word.APART: "different in",
}


def sentence(served: RequestResult) -> str:
    """The request's verdict in one or a few plain sentences."""
    verdict = served.verdict
    if served.stopped:
        return STOPPED
    if verdict is None or not verdict.words:
        return NO_REFERENCE
    sentences = [NO_GOOD] if verdict.gate else []
    if all(word is Word.UNKNOWN for word in verdict.words.values()):
        return " ".join([*sentences, _distance(verdict)])
    sentences += [NOTHING] if NOTHING_TO_FORGET in verdict.outcome else []
    return " ".join([*sentences, _compared(verdict, served.catalogue)])


def reasons(served: RequestResult) -> str:
    """Which measures lie outside the noise between retrainings, and on which side; empty for none."""
    words, catalogue = served.verdict.words if served.verdict else {}, served.catalogue
    parts = []
    for word, reason in REASONS.items():
        names = [catalogue[n].short for n, found in words.items() if found is word and catalogue[n].decides]
        parts += [f"{reason} {', '.join(names)}"] if names else []
    return f"Outside: {'; '.join(parts)}." if parts else ""


def _compared(verdict: Verdict, catalogue: Catalogue) -> str:
    counted = [word for name, word in verdict.words.items() if catalogue[name].decides]
    within = sum(word in (Word.WITHIN, Word.BETTER) for word in counted)
    if within == len(counted):
        return WITHIN
    return (
        f"Not yet like a retrained model: {within} of {len(counted)} measures lie within the noise between "
        "retrainings."
    )


def _distance(verdict: Verdict) -> str:
    gap = verdict.distances.get("gap")
    far = "" if gap is None or isnan(gap) else f" is {gap:.1f} points from the retrained one on average, but"
    return (
        f"The unlearned model{far or ' was held against the retrained one, but'} there is no verdict: "
        "without models retrained from other seeds nobody knows how far is far."
    )
