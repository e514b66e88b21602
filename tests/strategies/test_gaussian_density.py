"""LAF with Gaussians in the place of the VAEs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.federations import RecordingGrid, enrolled, furthest, initial_weights, small_spec

from fedlaf.client.steps import laf_loop
from fedlaf.client.steps.laf_loop import Task
from fedlaf.core.errors import InvalidValue
from fedlaf.core.request import ForgetRequest
from fedlaf.method.contract import Stage, StageResult
from fedlaf.models import Gaussian
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.objectives.laf_targets import TargetRule
from fedlaf.protocol.messages import Part
from fedlaf.strategies.base.densities import DensityMethod
from fedlaf.strategies.laf_adam import LafAdam
from fedlaf.strategies.laf_published import PublishedLaf

SIZES = dict.fromkeys(range(4), 100)
REQUEST = ForgetRequest.of_samples({0: range(60), 2: range(30)}, SIZES)
REPRESENT = Represent(density="gaussian", rows="retain", most_rows=50)
FORGET = Forget(lr_unlearning=1e-3, lr_alignment=1e-3, weighting="oddness")
METHODS = {
    "published": PublishedLaf(
        represent=REPRESENT, forget=FORGET, forget_steps=2, forget_rounds=1, closing_rounds=2
    ),
    "adam": LafAdam(
        represent=REPRESENT, target_rule=TargetRule(strength=0.1), warmup_steps=2, align_rounds=1
    ),
}


def run(method: DensityMethod) -> tuple[StageResult, RecordingGrid]:
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    wire = RecordingGrid(grid)
    stage = Stage("request-1", 0, replace(registry, request=REQUEST))
    return method.run(wire, initial_weights(spec), stage), wire


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_it_is_there_after_one_round_of_moments(method: DensityMethod) -> None:
    result, wire = run(method)
    phases = [record.phase for record in result.records]
    assert phases[0] == "teach"
    assert "represent" not in phases
    assert result.cost.labels_read == 0
    # h is only looked at: on 4 x 50 or fewer retain rows and on 90 forget rows.
    assert result.cost.vae_passes == 0
    assert furthest(result.weights, initial_weights(small_spec(4))) > 1e-4
    parts = {part for m in wire.replies for part in m.content.array_records}
    assert Part.FORGET_VAE not in parts
    named = [m.content.array_records[Part.VAE] for m in wire.sent if Part.VAE in m.content.array_records]
    assert {tuple(record) for record in named} == {("shift", "scale", "whiten")}


def test_each_forgetting_client_has_an_h_f_of_its_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Task] = []
    real = laf_loop.forget

    def watched(task: Task, *more: Any) -> Any:
        seen.append(task)
        return real(task, *more)

    monkeypatch.setattr(laf_loop, "forget", watched)
    run(replace(METHODS["published"], recover_rounds=0, closing_rounds=0))
    assert [len(task.forget.rows) for task in seen] == [60, 0, 30, 0]
    for task in seen:
        if len(task.forget.rows):
            assert isinstance(task.h_f, Gaussian)
            torch.testing.assert_close(task.h_f.shift, task.forget.teacher.mean(0))
            assert not torch.allclose(task.h_f.shift, task.h.shift, rtol=1e-3)
        assert torch.equal(task.h.whiten, seen[0].h.whiten)  # type: ignore[arg-type]


def test_its_h_f_is_never_shared() -> None:
    with pytest.raises(InvalidValue, match=r"^share_h_f: expected False, .*density=vae"):
        Represent(density="gaussian", share_h_f=True)
