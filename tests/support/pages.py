"""A run's report with all that its page shows, made without training anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fedlaf.core.cost import Cost
from fedlaf.data import LabelledRows
from fedlaf.evaluation import (
    Evaluation,
    EvaluationSplits,
    Gate,
    Predictions,
    evaluate,
    judged,
    spread,
)  # fmt: skip
from fedlaf.report import Point, Report, RequestResult, partition_view, request_view, shown_rows

CLASSES, DIMS = 4, 6
MODELS = ("original", "unlearned", "retrained", "reference-1")


def labelled(rows: int, seed: int, shape: tuple[int, ...] = (1, 8, 8)) -> LabelledRows:
    stream = np.random.default_rng(seed)
    inputs = stream.integers(0, 256, (rows, *shape), dtype=np.uint8)
    x = torch.from_numpy(inputs) if len(shape) == 3 else torch.from_numpy(inputs.astype(np.float32))
    return LabelledRows(x, torch.from_numpy(stream.integers(0, CLASSES, rows)))


def split_rows(
    clients: int = 5, *, forget: int = 150, shape: tuple[int, ...] = (1, 8, 8)
) -> EvaluationSplits:
    """Rows of a request by client 0; the other clients hold one remaining row each, at least."""
    retain = max(120, clients - 1)
    owners = {
        "forget": np.zeros(forget, np.int64),
        "retain": np.sort(1 + np.arange(retain) % (clients - 1)).astype(np.int64),
    }
    return EvaluationSplits(
        labelled(retain, 1, shape), labelled(forget, 2, shape), labelled(100, 3, shape), owners=owners
    )


def predicted(splits: EvaluationSplits, model: str) -> Predictions:
    """Made-up predictions that know labels the better the more a model has seen of the rows."""
    stream = np.random.default_rng(MODELS.index(model))
    sure = {"retain": 2.0, "forget": 2.5 if model == "original" else 0.5, "test": 0.8}
    said: dict[str, Any] = {}
    inner = {}
    for kind, scale in sure.items():
        y = getattr(splits, kind).y.numpy()
        logits = stream.normal(size=(len(y), CLASSES)) + scale * np.eye(CLASSES)[y]
        said[kind] = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        mixed = logits @ np.random.default_rng(0).normal(size=(CLASSES, DIMS))
        inner[kind] = (mixed + 0.1 * stream.normal(size=mixed.shape)).astype(np.float32)
    return Predictions(**said, represented=inner)


def a_report(clients: int = 5, *, shape: tuple[int, ...] = (1, 8, 8), request: bool = True) -> Report:
    """A whole report of one withdrawal: measures, curves with representations, a partition."""
    splits = split_rows(clients, shape=shape)
    labels = [np.arange(8) % CLASSES for _ in range(clients)]
    config = {"seed": 3, "train": {"rounds": 3, "fit": {"lr": 1e-3}}, "clients": clients, "resume": None}
    results = (a_result(splits),) if request else ()
    return Report(
        3, "laf", results, tuple(curves(splits)), Cost(gradient_passes=100), {"train": 1.5, "total": 4.0},
        {"fedlaf": "0", "torch": "2"}, config, partition=partition_view(labels, CLASSES, {0}),
        command="fedlaf 'x=[1, 2]' seed=3",
    )  # fmt: skip


def a_result(splits: EvaluationSplits) -> RequestResult:
    seen = {model: predicted(splits, model) for model in MODELS}
    found = {model: evaluate(seen[model], splits, seen["retrained"]) for model in MODELS[:3]}
    found = {
        model: Evaluation({**e.measures, "backdoor_success": 30.0}, e.by_class, {"conv": 0.9, "head": 0.7})
        for model, e in found.items()
    }
    pair = [(seen[model], evaluate(seen[model], splits)) for model in ("retrained", "reference-1")]
    verdict = judged(found, spread(pair, splits), Gate())
    shown = shown_rows(splits)
    view = request_view(
        {model: seen[model] for model in found}, splits, lambda model: predicted(shown, model), (0,)
    )
    return RequestResult(
        "request-1", 3, (0,), len(splits.forget), (0,), found,
        {"unlearned": Cost(gradient_passes=20, bytes_up=5, rounds=2, client_seconds=1.5),
         "retrained": Cost(gradient_passes=100, bytes_up=50, rounds=3, client_seconds=9.0)},
        spread={"gap": 1.0}, verdict=verdict, view=view,
    )  # fmt: skip


def curves(splits: EvaluationSplits) -> list[Point]:
    shown = shown_rows(splits)
    points = []
    for stage, rounds in (("train", 3), ("request-1", 2), ("retrain-1", 3)):
        for number in range(1, rounds + 1):
            model = {"train": "original", "request-1": "unlearned", "retrain-1": "retrained"}[stage]
            inner = predicted(shown, model).represented["forget"] * number
            by_class = {kind: tuple(10.0 * number + c for c in range(CLASSES)) for kind in ("test", "forget")}
            measures = {
                "accuracy_test": 20.0 * number,
                "accuracy_forget": 15.0 * number,
                "backdoor_success": 9.0,
            }
            points.append(Point(stage, number, 100.0 * number, measures, by_class, inner.astype(np.float16)))
    return points


def a_comparison(methods: int = 22) -> dict[str, Any]:
    """What comparison.json holds of many methods in two settings, one of which failed."""
    stream = np.random.default_rng(0)

    def number(value: float) -> dict[str, float | None]:
        return {"mean": float(value), "half": float(abs(value) / 4)}

    rows = []
    for setting in ("IID", "Dirichlet 0.3"):
        for place in range(methods + 1):
            gap = float(stream.uniform(0.2, 15.0))
            rows.append({
                "setting": setting, "method": f"method_{place}" if place else "nothing", "gap": number(gap),
                "apart": {"accuracy_test": number(-gap / 5), "accuracy_forget": number(gap / 3)},
                "js": {"js_test": number(gap / 100)},
                "shares": {"passes": float(stream.choice([0.0, 1.0, 5.0, 17.0, 50.0])), "bytes": gap,
                           "client_seconds": 2 * gap, "labels_read": None},
                "stored_mb": 0.0, "spread": {"mean": 1.2, "half": 0.1}, "gaps": {"0": gap}, "errors": {},
            })  # fmt: skip
        rows.append({**rows[-1], "method": "broken", "gap": {"mean": None, "half": None},
                     "errors": {"0": "no client <answered>"}})  # fmt: skip
    return {"title": "Many methods", "seeds": [0, 1, 2], "rows": rows}
