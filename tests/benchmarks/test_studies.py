"""The studies as defined: each variant composes, can be built, and means what its label says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from benchmarks import study, study_losses, study_plan
from benchmarks.studies import STUDIES
from benchmarks.study_kinds import TRIAL, Study, Sweep, Variant
from benchmarks.study_plan import Plan, shown, slug
from fedlaf.experiment import config as configuration


@pytest.fixture(autouse=True, scope="module")
def composed_once() -> Iterator[None]:
    """Compositions are slow, and here always the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_plan, "composed", cache(study_plan.composed))
        yield


def plan_of(name: str, *extra: str) -> Plan:
    return Plan(name, STUDIES[name], Path("runs"), extra)


@pytest.mark.parametrize("name", STUDIES)
def test_every_variant_composes_can_be_built_and_one_is_the_default(name: str) -> None:
    plan = plan_of(name)
    variants = plan.variants()
    for variant, _ in variants:
        config = study_plan.composed((*plan.overrides, *variant.overrides))
        for section in ("forget", "requests[0]"):
            assert configuration.made(config, section) is not None
    (default,) = (v.label for v, default in variants if default)
    assert default != "as configured", "none of the study's own variants is the default"
    assert len({slug(v.label) for v, _ in variants}) == len(variants) > 1


def test_published_variants_are_the_published_preset() -> None:
    preset = study_plan.composed(("forget=laf_paper",)).forget
    _, tuned, whole, short = STUDIES["published"].variants
    assert (
        study_plan.composed((*TRIAL, *tuned.overrides)).forget._target_
        == "fedlaf.strategies.laf_published.Laf"
    )
    assert study_plan.composed((*TRIAL, *whole.overrides)).forget == preset
    forget = study_plan.composed((*TRIAL, *short.overrides)).forget
    assert (forget.forget_rounds, forget.forget_steps) == (4, 20)
    assert {**forget, "forget_rounds": 20, "forget_steps": None} == preset


@pytest.mark.parametrize("name", study_losses.STUDIES)
def test_studies_of_the_published_losses_start_from_their_tuned_preset(name: str) -> None:
    plan = plan_of(name)
    assert (
        study_plan.composed(plan.overrides).forget == study_plan.composed(("forget=laf_tuned_losses",)).forget
    )
    (default,) = (v for v, default in plan.variants() if default)
    base, job = plan.base(0), plan.job(default, True, 0)
    assert base == plan_of("assign_targets").base(0), "the base run is one for all methods"
    assert job.config is not None
    assert base.made(job.config)


def test_the_default_of_a_sweep_is_read_from_the_configuration() -> None:
    sweep = Sweep("forget.represent.latent", (3, 100), "Z", "Z")
    study = Study("", "", sweep=sweep, base=("forget.represent.latent=7",))
    found = Plan("x", study, plan_of("aim_latent").folder).variants()
    assert [(v.x, v.label, default) for v, default in found] == [
        (3, "Z 3", False), (7, "Z 7", True), (100, "Z 100", False)
    ]  # fmt: skip


def test_a_study_without_its_default_gets_a_row_for_it() -> None:
    study = Study("", "", (Variant("other", ("forget.represent.latent=7",)), Variant("broken", ("none=1",))))
    found = Plan("x", study, plan_of("aim_latent").folder).variants()
    assert [(v.label, default) for v, default in found] == [
        ("as configured", True), ("other", False), ("broken", False)
    ]  # fmt: skip


def test_extra_overrides_of_the_method_leave_the_base_run_alone() -> None:
    plan, plain = (
        plan_of("assign_targets", "forget.cohort=3", "train.rounds=5"),
        plan_of("assign_targets", "train.rounds=5"),
    )
    assert plan.base(1) == plain.base(1)
    assert "train.rounds=5" in plan.base(1).overrides
    variant = Variant("v", ("forget.align_rounds=9",))
    job = plan.job(variant, False, 1)
    assert job.overrides == (*TRIAL, "train.rounds=5", "forget.cohort=3", "forget.align_rounds=9", "seed=1")
    assert str(job.folder) == "runs/aim/v/seed-1"
    # The default is one run for all studies with the same base and method.
    other = plan_of("align_lr", "forget.cohort=3", "train.rounds=5")
    assert plan.job(variant, True, 1) == other.job(Variant("w"), True, 1)
    assert plan.job(variant, True, 1) != plain.job(variant, True, 1)


def test_a_base_run_trains_what_its_variants_need() -> None:
    plan = plan_of("repair")
    base, job = plan.base(2), plan.job(Variant("v", ("forget.repair.labels=0.5",)), False, 2)
    assert base.config is not None
    assert job.config is not None
    assert base.made(job.config)
    assert not job.made(base.config)
    assert not base.made({**job.config, "train": {**job.config["train"], "rounds": 3}})
    assert job.made({**job.config, "resume": "elsewhere"})


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-5, "1e-5"), (0.0003, "3e-4"), (2.5e-4, "2.5e-4"), (0.05, "0.05"), (20, "20"), (0, "0")],
)
def test_values_are_written_as_people_and_hydra_read_them(value: float, text: str) -> None:
    assert shown(value) == text
    assert float(text) == value


def test_folders_have_short_names_of_their_own() -> None:
    assert slug("experiment=paper/x", "a.b_c=[1,2]") == "experiment-paper-x-a.b_c-1-2"
    one, other = (slug(*(f"some.key={i}" for i in range(n))) for n in (50, 51))
    assert len(one) == len(other) == 100
    assert one != other


def test_the_list_names_all_studies(capsys: pytest.CaptureFixture[str]) -> None:
    study.main(["--list"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(STUDIES)
    with pytest.raises(SystemExit, match=r"no study 'loss'; there are published, .*, and all$"):
        study.main(["loss"])
