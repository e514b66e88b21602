"""LAF+R: repair reads the labelled share of the retain rows, the same in every round, no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.averaged import AveragedAs
from support.federations import enrolled, initial_weights, same_bits, small_spec

from fedlaf.client.steps import training
from fedlaf.core.request import ForgetRequest
from fedlaf.data import LabelledRows
from fedlaf.data.federation import build
from fedlaf.method.contract import Stage, StageResult
from fedlaf.objectives.classification import Fit
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.objectives.laf_targets import TargetRule
from fedlaf.strategies.base.densities import DensityMethod
from fedlaf.strategies.laf_adam import LafAdam
from fedlaf.strategies.laf_published import PublishedLaf
from fedlaf.strategies.laf_repair import LafAdamRepair, PublishedLafRepair

H = {"represent": Represent(latent=4), "represent_rounds": 1}
LAF = {**H, "forget": Forget(lr_alignment=1e-3), "forget_steps": 2, "closing_rounds": 2}
ASSIGNED = {
    **H,
    "target_rule": TargetRule(strength=0.1, negative_weight=0.1),
    "warmup_steps": 2,
    "align_rounds": 1,
}
KINDS = pytest.mark.parametrize(
    ("plain", "repaired", "settings"),
    [(PublishedLaf, PublishedLafRepair, LAF), (LafAdam, LafAdamRepair, ASSIGNED)],
    ids=["published losses", "adam"],
)
SIZES = dict.fromkeys(range(4), 100)
REQUEST = ForgetRequest.of_samples({0: range(100), 2: range(60, 100)}, SIZES)


def run(method: DensityMethod) -> StageResult:
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    return method.run(grid, initial_weights(spec), Stage("request-1", 0, replace(registry, request=REQUEST)))


def keys(rows: LabelledRows) -> list[bytes]:
    return [x.numpy().tobytes() for x in rows.x]


@KINDS
@pytest.mark.parametrize("share", [0.05, 0.25, 1.0])
def test_repair_never_touches_a_row_outside_the_labelled_share(
    share: float, plain: Any, repaired: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[bytes]] = []
    real = training.train

    def watched(model, rows, settings, stream):  # type: ignore[no-untyped-def]
        seen.append(keys(rows))
        return real(model, rows, settings, stream)

    monkeypatch.setattr(training, "train", watched)
    result = run(repaired(**settings, repair=Fit(labels=share), repair_rounds=2))
    federation = build(small_spec(4).federation)
    asked = [record.asked for record in result.records if record.phase == "repair"]
    assert asked == [(1, 2, 3), (1, 2, 3)]  # whoever withdrew is not asked
    first, second = seen[:3], seen[3:]
    assert first == second  # the same rows in every round
    for client, rows in zip((1, 2, 3), first, strict=True):
        remaining = keys(federation.client(client).labelled(REQUEST.of(client)))
        assert len(rows) == round(share * len(remaining))
        assert set(rows) <= set(remaining)
    assert result.cost.labels_read == sum(len(rows) for rows in seen)


@KINDS
def test_without_labels_it_is_plain_laf(plain: Any, repaired: Any, settings: dict[str, Any]) -> None:
    found = run(plain(**settings))
    assert same_bits(found.weights, run(repaired(**settings, repair=Fit(labels=0))).weights)
    assert found.cost.labels_read == 0


@KINDS
def test_repair_is_federated_averaging_from_where_laf_ended(
    plain: Any, repaired: Any, settings: dict[str, Any]
) -> None:
    fit = Fit(lr=1e-2)
    found = run(repaired(**settings, repair=fit))
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    after = replace(registry, removed=REQUEST)
    left = run(plain(**settings)).weights
    averaged = AveragedAs(1, fit=fit, phase="repair").run(grid, left, Stage("request-1", 0, after))
    assert same_bits(found.weights, averaged.weights)
    head = [k for k in found.weights if k.startswith("head.")]
    assert any(not np.array_equal(found.weights[k], initial_weights(spec)[k]) for k in head)
