"""The Gaussian of representations against scikit-learn's covariance, and in the place of the VAEs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.covariance import ShrunkCovariance
from support.federations import RecordingGrid, enrolled, furthest, initial_weights, small_spec
from torch import Tensor

from fedlaf.client.steps import laf_loop, representations
from fedlaf.client.steps.laf_loop import Task
from fedlaf.core.errors import InvalidValue
from fedlaf.core.request import ForgetRequest
from fedlaf.method.contract import Stage, StageResult
from fedlaf.models import Gaussian
from fedlaf.objectives import laf_losses
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.objectives.laf_targets import TargetRule
from fedlaf.protocol.messages import Part
from fedlaf.strategies.base.aggregate import weighted_mean
from fedlaf.strategies.base.densities import DensityMethod
from fedlaf.strategies.laf_adam import LafAdam
from fedlaf.strategies.laf_published import PublishedLaf


def rows(seed: int, count: int, dims: int) -> Tensor:
    """Correlated rows about a mean of their own, dimensions of different size."""
    stream = torch.Generator().manual_seed(seed)
    mixed = torch.randn(dims, dims, generator=stream, dtype=torch.float64)
    return torch.randn(count, dims, generator=stream, dtype=torch.float64) @ mixed + 5 * mixed[0]


def fitted(e: Tensor) -> Gaussian:
    h = Gaussian(e.shape[1]).double()
    h.fit(*representations.moments_of(e, full=True))
    return h


@pytest.mark.parametrize(("count", "dims"), [(200, 6), (40, 12), (5, 12), (1, 3)], ids=str)
def test_the_error_is_the_mahalanobis_distance_of_the_shrunk_covariance(count: int, dims: int) -> None:
    e = rows(0, count, dims)
    others = rows(1, 7, dims)
    found = laf_losses.reconstruction_error(fitted(e)(others), "sum").numpy()
    if count == 1:  # nothing varies: where rows differ from the one that was seen, errors are huge
        assert (found > 1e9).all()
        return
    oracle = ShrunkCovariance(shrinkage=0.1).fit(e.numpy())
    np.testing.assert_allclose(found, oracle.mahalanobis(others.numpy()), rtol=1e-6)
    mean = laf_losses.reconstruction_error(fitted(e)(others), "mean").numpy()
    np.testing.assert_allclose(mean * dims, found, rtol=1e-12)


def test_a_dimension_that_never_varies_has_scale_one() -> None:
    e = rows(2, 50, 4)
    e[:, 2] = 7
    h = fitted(e)
    assert float(h.scale[2]) == 1
    np.testing.assert_allclose(h.scale[[0, 1, 3]], e.std(0, correction=0)[[0, 1, 3]], rtol=1e-9)
    assert torch.isfinite(h.whiten).all()
    np.testing.assert_allclose(h.shift, e.mean(0), rtol=1e-12)


def test_the_clients_moments_by_rows_are_those_of_all_rows() -> None:
    whole = rows(3, 60, 5)
    parts = [whole[:7], whole[7:7], whole[7:40], whole[40:]]
    moments = [representations.moments(part, full=True) for part in parts]
    assert {k: v.shape for k, v in moments[0].items()} == {"mean": (5,), "second_moment": (5, 5)}
    joined = weighted_mean(moments, [len(part) for part in parts])
    pooled = representations.moments(whole, full=True)
    for name, array in joined.items():
        np.testing.assert_allclose(array, pooled[name], rtol=1e-12, atol=1e-12)


def test_the_score_of_the_paper_works_on_it() -> None:
    h = fitted(rows(4, 100, 6))
    retain, forget = rows(4, 100, 6), rows(4, 100, 6) + 50
    phi = [laf_losses.score(laf_losses.reconstruction_error(h(e), "mean")) for e in (retain, forget)]
    assert all(((p >= 1) & (p < np.e)).all() for p in phi)
    assert float(phi[1].min()) > float(phi[0].max())
    student = retain.clone().requires_grad_()
    laf_losses.score(laf_losses.reconstruction_error(h(student), "mean")).sum().backward()
    assert torch.isfinite(student.grad).all()  # type: ignore[arg-type]
    assert h(retain, torch.ones(100, 3)).target.equal(h(retain).target)  # there is no latent noise
    assert laf_losses.reconstruction_error(h(retain[:0]), "sum").shape == (0,)


# ---- in a federation

SIZES = dict.fromkeys(range(4), 100)
REQUEST = ForgetRequest.of_samples({0: range(60), 2: range(30)}, SIZES)
REPRESENT = Represent(density="gaussian", rows="retain", most_rows=50)
FORGET = Forget(lr_unlearning=1e-3, lr_alignment=1e-3, weighting="oddness")
METHODS = {
    "published": PublishedLaf(represent=REPRESENT, forget=FORGET, forget_steps=2, forget_rounds=1),
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
    with pytest.raises(InvalidValue, match=r"^share_h_f: expected false with density=gaussian"):
        Represent(density="gaussian", share_h_f=True)
