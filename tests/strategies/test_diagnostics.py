"""Failure signatures: what each looks like, and that a fatal one gives back the model from before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.federations import enrolled, initial_weights, same_bits, small_spec

from fedlaf.core.cost import Cost
from fedlaf.core.request import ForgetRequest
from fedlaf.method.contract import RequestStopped, RoundRecord, Stage, StageResult
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.objectives.laf_targets import Alignment, TargetRule
from fedlaf.strategies.base import diagnostics
from fedlaf.strategies.base.strategy import ForgetStrategy
from fedlaf.strategies.laf_adam import LafAdam
from fedlaf.strategies.laf_published import PublishedLaf

SIZES = dict.fromkeys(range(4), 100)
REQUEST = ForgetRequest.of_clients([0], SIZES)
REPRESENT = Represent(latent=4, rows="retain", epochs=1)


def record(phase: str, round_: int = 1, **numbers: float) -> RoundRecord:
    return RoundRecord(phase, round_, (0,), {}, numbers, Cost())


def run(method: ForgetStrategy) -> StageResult:
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    return method.run(grid, initial_weights(spec), Stage("request-1", 0, replace(registry, request=REQUEST)))


def stopped(method: ForgetStrategy) -> RequestStopped:
    with pytest.raises(RequestStopped) as caught:
        run(method)
    # Whatever the rounds did, what comes back is what was there before.
    assert same_bits(caught.value.result.weights, initial_weights(small_spec(4)))
    assert caught.value.result.cost.rounds > 0
    assert caught.value.result.findings[-1] is caught.value.finding
    return caught.value


def test_a_vae_diverges_when_its_loss_has_grown_tenfold() -> None:
    calm = [record("represent", r, loss=loss) for r, loss in enumerate((50.0, 20.0, 40.0), 1)]
    assert not list(diagnostics.of_density(calm))
    (found,) = diagnostics.of_density([*calm, record("represent", 4, loss=201.0)])
    assert (found.name, found.phase, found.round, found.fatal) == ("diverged", "represent", 4, True)
    assert "201" in found.message
    assert not list(diagnostics.of_density([*calm, record("represent own", loss=1e9)]))


@pytest.mark.parametrize(
    ("distance", "names"),
    [(0.1, []), (0.2, ["remaining rows strained"]), (0.5, ["remaining rows ruined"])],
)
def test_ruin_is_a_matter_of_degree(distance: float, names: list[str]) -> None:
    found = list(diagnostics.of_ruin(record("align"), distance))
    assert [f.name for f in found] == names
    assert all(f.fatal == (distance > diagnostics.RUIN) for f in found)


@pytest.mark.parametrize(("share", "fatal"), [(0.1, []), (0.2, [False]), (0.7, [False])])
def test_targets_that_change_the_class_of_many_retain_rows(share: float, fatal: list[bool]) -> None:
    assert [found.fatal for found in diagnostics.of_change(record("apply_logit_shift"), share)] == fatal


def test_nothing_is_forgotten() -> None:
    assert not list(diagnostics.of_nothing(record("forget"), 0.2, 0.01))
    (alike,) = diagnostics.of_nothing(record("forget"), 0.01, 0.02)
    (still,) = diagnostics.of_nothing(record("forget"), 1e-7, 0.0)
    assert (alike.fatal, still.fatal) == (False, True)
    assert alike.name == still.name == "nothing forgotten"


def test_targets_that_are_missed_and_targets_that_ask_for_nothing() -> None:
    assert not list(diagnostics.of_targets(record("align"), 0.2, 0.05))
    assert [f.name for f in diagnostics.of_targets(record("align"), 0.2, 0.15)] == ["too little forgotten"]
    assert [f.name for f in diagnostics.of_way(record("apply_logit_shift"), 1e-7)] == ["nothing to forget"]
    assert not list(diagnostics.of_way(record("apply_logit_shift"), 0.1))


def test_a_vae_that_explodes_stops_the_request() -> None:
    wild = replace(REPRESENT, lr=1e6, standardise=False, error="sum")
    error = stopped(LafAdam(represent=wild, represent_rounds=8))
    assert error.finding.name == "diverged"
    assert error.finding.phase == "represent"


def test_a_forget_phase_that_ruins_the_retain_rows_stops_the_request() -> None:
    forget = Forget(lr_unlearning=0.5, lr_alignment=0.5, temperature=0.1)
    method = PublishedLaf(
        represent=REPRESENT, represent_rounds=1, forget=forget, forget_steps=20, forget_rounds=1,
        recover_rounds=0, closing_rounds=0, forget_share=0.9,
    )  # fmt: skip
    request = ForgetRequest.of_samples({k: range(60) for k in range(4)}, SIZES)
    spec = small_spec(4)
    grid, registry = enrolled(spec)
    stage = Stage("request-1", 0, replace(registry, request=request))
    with pytest.raises(RequestStopped, match="ruined") as caught:
        method.run(grid, initial_weights(spec), stage)
    assert same_bits(caught.value.result.weights, initial_weights(spec))


def test_targets_that_are_out_of_reach_are_named_and_do_not_stop() -> None:
    method = LafAdam(
        represent=REPRESENT, represent_rounds=1,
        target_rule=TargetRule(outlier_quantile=0.5, strength=0, negative_weight=0, max_projection=50.0),
        align=Alignment(lr=1e-7, steps=1), warmup_steps=0, align_rounds=1,
    )  # fmt: skip
    assert "too little forgotten" not in {f.name for f in run(replace(method, align=Alignment())).findings}
    shifted = record("apply_logit_shift", target_distance_forget=0.3)
    names = {f.name for f in method.findings([shifted, record("align", distance_to_target_forget=0.29)])}
    assert names == {"too little forgotten"}


def test_a_run_in_order_finds_nothing() -> None:
    # An untrained head needs large moves for small shifts of classes: without them.
    calm = TargetRule(strength=0, negative_weight=0)
    assert run(LafAdam(represent=REPRESENT, represent_rounds=2, target_rule=calm)).findings == ()
