"""Leakage of retained rows: whether serving a request gives away more of the rows that stay."""

from __future__ import annotations

import numpy as np

from fedlaf.core.seeding import numpy_stream
from fedlaf.evaluation.attacks import FPR, Scores, figures, like_mix, log_likelihood
from fedlaf.evaluation.predictions import Predictions
from fedlaf.evaluation.splits import EvaluationSplits


def leakage(
    found: Predictions, original: Predictions | None, splits: EvaluationSplits, most: int
) -> dict[str, float]:
    """The loss attack (Yeom et al., CSF 2018) on remaining rows, against test rows of their class mix: AUC
    and TPR at 1 % FPR, in percent, and `leakage_new`, the share of remaining rows that it finds at 1 % FPR in
    this model and did not find in the `original`, where there is one.

    The attack learns nothing from remaining rows, so all of them can be attacked; at most `most` are. NaN
    where a kind has no rows. Source: Carlini et al., "The privacy onion effect", NeurIPS 2022 (that
    removing rows exposes others).
    """
    stream = numpy_stream(0, "leakage of retained rows")
    inside = stream.permutation(len(splits.retain))[:most]
    order = stream.permutation(len(splits.test))
    labels, unseen = splits.retain.y.numpy()[inside], splits.test.y.numpy()[order]
    classes = 1 + max(int(labels.max(initial=0)), int(unseen.max(initial=0)))
    outside = order[like_mix(unseen, np.bincount(labels, minlength=classes))][:most]

    def scores(model: Predictions) -> tuple[Scores, Scores]:
        return (
            log_likelihood(model.retain[inside], labels),
            log_likelihood(model.test[outside], splits.test.y.numpy()[outside]),
        )

    members, others = scores(found)
    of_loss = figures("loss", members, others, 0.0)
    measures = {f"leakage_{figure}": of_loss[f"mia_loss_{figure}"] for figure in ("auc", "tpr")}
    if original is not None and len(members) and len(others):
        new = _given_away(members, others) & ~_given_away(*scores(original))
        measures["leakage_new"] = 100.0 * float(new.mean())
    return measures


def _given_away(members: Scores, others: Scores) -> np.ndarray:
    """Which members score higher than all but 1 % of the others."""
    return members > np.quantile(others, 1.0 - FPR, method="higher")
