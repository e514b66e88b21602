"""What a page shows of one request beyond its measures: rows, flows, scores, clients, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedlaf.core.types import Indices
from fedlaf.evaluation import EvaluationSplits, Predictions, spaced
from fedlaf.evaluation.measures import Probabilities
from fedlaf.evaluation.splits import LABELLED
from fedlaf.report.view.pictures import pictures

Array = npt.NDArray[np.float64]
SHOWN = {"forget": 120, "retain": 100, "test": 60}
"""Rows of each kind that a page draws one by one, at most."""
SCORED = 300
"""Rows of each kind whose membership scores a page has, at most."""
CLIENTS = 60
"""Clients that a page has by themselves, at most."""
AXES = 16
"""Principal components of a row that a page has."""
FLOWS = 12
"""Classes between which flows are drawn, at most; the others are one."""


@dataclass(frozen=True)
class Projection:
    """The directions [16, D] in which all models' representations spread most, and their mean [D].

    A page draws the first two; the others are for the t-SNE that it computes.
    """

    mean: Array
    axes: Array
    shares: tuple[float, ...]

    @classmethod
    def of(cls, represented: Sequence[npt.NDArray[np.float32]]) -> Projection:
        """Principal components of the representations of all models together."""
        rows = np.concatenate(represented).astype(np.float64)
        mean = rows.mean(0)
        _, sizes, axes = np.linalg.svd(rows - mean, full_matrices=False)
        spread = sizes**2 / max(float((sizes**2).sum()), 1e-12)
        return cls(mean, axes[:AXES], tuple(np.round(100.0 * spread[:2], 1).tolist()))

    def at(self, represented: npt.NDArray[Any], axes: int = 2) -> list[list[float]]:
        """Where representations [N, D] lie along the first `axes` directions: N lists."""
        found = (represented.astype(np.float64) - self.mean) @ self.axes[:axes].T
        return np.round(found, 3).tolist()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class RequestView:
    """One request for a page: plain values, and the projection in which rounds are drawn later."""

    values: Mapping[str, Any] = field(default_factory=dict)
    projection: Projection | None = None


def shown_rows(splits: EvaluationSplits) -> EvaluationSplits:
    """The rows of each kind that a page draws one by one, evenly spaced over all clients."""
    at = {kind: spaced(len(getattr(splits, kind)), most) for kind, most in SHOWN.items()}
    rows = {kind: getattr(splits, kind).at(torch.from_numpy(where)) for kind, where in at.items()}
    owners = {kind: splits.owners[kind][at[kind]] for kind in splits.owners}
    return replace(splits, **rows, triggered=None, owners=owners)


def request_view(
    seen: Mapping[str, Predictions], splits: EvaluationSplits, drawn: Callable[[str], Predictions],
    asked: Sequence[int] = (),
) -> RequestView:  # fmt: skip
    """A request's view from the predictions `seen` of each model on all rows; `drawn` predicts a model on
    `shown_rows` with all their representations. `asked` are the clients of the request.
    """
    shown = shown_rows(splits)
    found = {model: drawn(model) for model in seen}
    kinds = [kind for kind in LABELLED for _ in range(len(getattr(shown, kind)))]
    inner = {m: np.concatenate([p.represented[kind] for kind in LABELLED]) for m, p in found.items()}
    projection = Projection.of(list(inner.values()))
    values = {
        "classes": int(next(iter(seen.values())).test.shape[1]),
        "counts": {kind: len(getattr(splits, kind)) for kind in LABELLED},
        "rows": {
            "kind": kinds,
            "label": _joined([getattr(shown, kind).y.numpy() for kind in LABELLED]),
            "client": _joined([_owners(shown, kind) for kind in LABELLED]),
        },
        "pictures": pictures(torch.cat([getattr(shown, kind).x for kind in LABELLED])),
        "answers": {model: _answers(p) for model, p in found.items()},
        "projection": {
            "at": {model: projection.at(rows, AXES) for model, rows in inner.items()},
            "shares": projection.shares,
        },
        "flows": _flows(seen),
        "membership": {m: _scores(found[m], seen[m], shown, splits) for m in seen},
        "clients": _clients(seen, splits, asked),
    }
    return RequestView(values, projection)


def logit(probabilities: Probabilities, labels: Indices) -> Array:
    """The logit of each row's own label: the loss attack's score, on a scale that can be drawn; [N].

    log(p / (1 - p)), which grows as the loss attack's log p does (Carlini et al., S&P 2022, sec. V).
    """
    own = np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1 - 1e-7)
    return np.asarray(np.round(np.log(own / (1 - own)), 2))


def _joined(parts: Sequence[npt.NDArray[np.int64]]) -> list[int]:
    return [int(value) for part in parts for value in part]


def _owners(splits: EvaluationSplits, kind: str) -> Indices:
    """The client of each row, -1 for rows of nobody."""
    return splits.owners.get(kind, np.full(len(getattr(splits, kind)), -1))


def _answers(found: Predictions) -> dict[str, list[Any]]:
    said = np.concatenate([found.of(kind) for kind in LABELLED])
    return {"class": said.argmax(1).tolist(), "sure": np.round(said.max(1), 3).tolist()}


def _flows(seen: Mapping[str, Predictions]) -> dict[str, Any]:
    """How many forgotten rows went from each of the original's answers to each of another model's."""
    if "original" not in seen:
        return {}
    said = {model: found.forget.argmax(1) for model, found in seen.items()}
    classes, counts = np.unique(np.concatenate(list(said.values())), return_counts=True)
    kept = np.sort(classes[np.argsort(-counts, kind="stable")][:FLOWS])
    place = {int(label): i for i, label in enumerate(kept)}
    names = [int(label) for label in kept] + ([-1] if len(kept) < len(classes) else [])
    moves = {}
    for model in said.keys() - {"original"}:
        matrix = np.zeros((len(names), len(names)), np.int64)
        for one, other in zip(said["original"], said[model], strict=True):
            matrix[place.get(int(one), len(kept)), place.get(int(other), len(kept))] += 1
        moves[model] = matrix.tolist()
    same = [said["unlearned"] == said["retrained"]] if {"unlearned", "retrained"} <= said.keys() else []
    return {"classes": names, "moves": moves, "agree": 100.0 * float(same[0].mean()) if same else None}


def _scores(
    drawn: Predictions, seen: Predictions, shown: EvaluationSplits, splits: EvaluationSplits
) -> dict[str, list[float]]:
    """Scores of the forgotten rows that are shown, and of a few remaining and unseen ones."""
    scores = {"forget": logit(drawn.forget, shown.forget.y.numpy()).tolist()}
    for kind in ("retain", "test"):
        at = spaced(len(getattr(splits, kind)), SCORED)
        scores[kind] = logit(seen.of(kind)[at], getattr(splits, kind).y.numpy()[at]).tolist()
    return scores


def _clients(
    seen: Mapping[str, Predictions], splits: EvaluationSplits, asked: Sequence[int]
) -> dict[str, Any]:
    """Accuracy in percent on each client's rows: those of the request, then those that changed most."""
    if not splits.owners:
        return {}
    owners = np.concatenate([_owners(splits, kind) for kind in ("retain", "forget")])
    labels = np.concatenate([getattr(splits, kind).y.numpy() for kind in ("retain", "forget")])
    ids, place, counts = np.unique(owners, return_inverse=True, return_counts=True)
    right = {}
    for model, found in seen.items():
        hits = np.concatenate([found.of(kind).argmax(1) for kind in ("retain", "forget")]) == labels
        right[model] = 100.0 * np.bincount(place, hits, len(ids)) / counts
    moved = np.abs(right["unlearned"] - right.get("original", right["unlearned"]))
    order = np.lexsort((ids, -moved, ~np.isin(ids, list(asked))))[:CLIENTS]
    order = np.sort(order)
    return {
        "of": len(ids),
        "ids": ids[order].tolist(),
        "asked": [int(k) for k in ids[order] if k in set(asked)],
        "rows": counts[order].tolist(),
        "accuracy": {model: np.round(values[order], 1).tolist() for model, values in right.items()},
    }
