"""The verdict as a sentence that a person understands who does not know the measures."""

from __future__ import annotations

from math import isnan

from fedlaf.evaluation import Verdict
from fedlaf.evaluation.verdict import FAILURES, Word
from fedlaf.report.report import RequestResult

SENTENCES = {
    "within the spread of retrainings": (
        "The rows are forgotten: the unlearned model is as close to the retrained one as models retrained "
        "from different seeds are to each other."
    ),
    FAILURES[Word.TOO_LITTLE]: (
        "Too little was forgotten: the unlearned model still treats the forgotten rows as rows it knows."
    ),
    FAILURES[Word.TOO_MUCH]: (
        "Too much was forgotten: the unlearned model treats the forgotten rows worse than a model that "
        "never saw them."
    ),
    FAILURES[Word.WORSE]: "The unlearned model is worse on other rows than a retrained one.",
    FAILURES[Word.APART]: "The unlearned model answers differently from a retrained one.",
    "nothing to forget": (
        "There was nothing to forget: the original is no further from the retrained model than a retraining."
    ),
    "original no good": "The original model is too weak for this comparison to say much.",
    "no reference": "There is no verdict: no model was retrained without the rows.",
}


def sentence(served: RequestResult) -> str:
    """The request's verdict in one or a few plain sentences."""
    verdict = served.verdict
    if served.stopped:
        return "The request was not served: the method stopped, and the model is the one from before it."
    if verdict is None:
        return SENTENCES["no reference"]
    told = [SENTENCES[outcome] for outcome in verdict.outcome if outcome in SENTENCES]
    return " ".join(told) or _distance(verdict)


def _distance(verdict: Verdict) -> str:
    gap = verdict.distances.get("gap")
    far = "" if gap is None or isnan(gap) else f" is {gap:.1f} points from the retrained one on average, and"
    return (
        f"The unlearned model{far or ' was compared with the retrained one, and'} there is no verdict: "
        "without models retrained from other seeds nobody knows how far is far."
    )
