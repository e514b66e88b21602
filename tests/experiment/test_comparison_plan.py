"""What a comparison runs, and how a wrong one is refused."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from fedlaf.core.errors import InvalidValue
from fedlaf.experiment.comparison.plan import ORIGINAL, Comparison, job, slug
from fedlaf.experiment.comparison.runs import finished
from fedlaf.experiment.comparison.sweep import shown
from fedlaf.experiment.config import composed, made, plain
from fedlaf.experiment.plan import prepare, provenance_of

FOLDER = Path(__file__).parents[2] / "conf" / "comparison"
NAMES = sorted(
    str(file.relative_to(FOLDER).with_suffix(""))
    for place in (".", "study")
    for file in (FOLDER / place).glob("*.yaml")
)
SMALL = ("data=fashion_sample", "data.train_rows=1000", "data.test_rows=50")
SWEEP = "sweep={key: forget.align.lr, values: [3e-4, 3e-3], symbol: rate, axis: learning rate, log: true}"


def comparison(*overrides: str) -> Comparison:
    return Comparison.of(composed(overrides, "compare"))


@cache
def forget_section(option: str) -> DictConfig:
    return composed((f"forget={option}", "corruption=none"))


def with_keys(keys: tuple[str, ...]) -> DictConfig:
    """What composing all keys of a method gives, but quicker: an option, then keys within it."""
    (option,) = (key.removeprefix("forget=") for key in keys if key.startswith("forget="))
    config = forget_section(option).copy()
    OmegaConf.set_struct(config, True)
    parser = OverridesParser.create()
    for override in parser.parse_overrides([key for key in keys if not key.startswith("forget=")]):
        assert override.key_or_group.startswith("forget."), override
        OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    return config


def test_the_fast_way_to_a_method_is_the_slow_one() -> None:
    keys = (
        "forget=laf_adam_repair",
        "forget.align.lr=3e-4",
        "forget.cohort=null",
        "forget.repair.labels=0.5",
    )
    assert with_keys(keys).forget == composed(keys).forget
    with pytest.raises(Exception, match="align_ruonds"):
        with_keys(("forget=laf_adam", "forget.align_ruonds=1"))


@cache
def can_start(keys: tuple[str, ...]) -> int:
    plan = prepare(composed((*keys, *SMALL)), ORIGINAL)
    return len(plan.schedule) if plan.stream is None else 1


@pytest.mark.parametrize("name", NAMES)
def test_all_that_a_comparison_runs_can_be_built(name: str) -> None:
    found = comparison(f"comparison={name}")
    assert found.name == name  # else two comparisons would share a folder
    for base in found.bases():
        assert base.after is None
        if base.seed == found.seeds[0]:
            assert can_start(base.overrides) == 1  # one request or stream, of rows that are there
    methods = {name: with_keys(keys) for name, keys in found.methods.items()}
    for config in methods.values():
        assert made(config, "forget") is not None
    runs = [run for base in found.bases() for run in (base, *found.runs(base))]
    assert len({run.folder for run in runs}) == len(runs)
    assert len(runs) == len(found.bases()) * (1 + len(methods))


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("study/")])
def test_a_study_has_a_default_or_compares_settings(name: str) -> None:
    found = comparison(f"comparison={name}")
    values = len(found.methods) if found.default else len(found.settings)
    assert values > 1
    assert found.title
    assert found.question.endswith(("?", "."))


def test_a_method_is_the_forget_option_of_its_name_unless_it_chooses_one() -> None:
    found = comparison('+methods.mild=["forget=laf_adam","forget.align_rounds=1"]', "only=[laf,mild]")
    assert found.methods == {"laf": ("forget=laf",), "mild": ("forget=laf_adam", "forget.align_rounds=1")}
    assert found.default is None


def test_methods_start_from_what_they_have_in_common_and_the_one_without_more_is_the_default() -> None:
    found = comparison("comparison=study/losses", 'of=["forget=laf","forget.cohort=2"]',
                       '+methods.other=["forget=laf_repair"]',
                       "only=[all parts,without recovery,other]")  # fmt: skip
    assert found.methods == {
        "all parts": ("forget=laf", "forget.cohort=2"),
        "without recovery": ("forget=laf", "forget.cohort=2", "forget.recover_rounds=0"),
        "other": ("forget=laf_repair",),
    }
    assert found.default == "all parts"


def test_a_sweep_of_the_method_is_a_method_for_each_value_and_for_the_configured_one() -> None:
    found = comparison("comparison=study/align_lr", 'of=["forget=laf_adam","forget.align.lr=2e-3"]')
    of = ("forget=laf_adam", "forget.align.lr=2e-3")
    assert found.methods == {
        "rate 3e-4": (*of, "forget.align.lr=0.0003"),
        "rate 1e-3": (*of, "forget.align.lr=0.001"),
        "rate 2e-3": of,
        "rate 3e-3": (*of, "forget.align.lr=0.003"),
    }
    assert found.places == {"rate 3e-4": 3e-4, "rate 1e-3": 1e-3, "rate 2e-3": 2e-3, "rate 3e-3": 3e-3}
    assert found.default == "rate 2e-3"
    assert list(found.settings) == [""]


def test_a_sweep_of_another_key_is_a_setting_for_each_value() -> None:
    found = comparison("comparison=study/request_share")
    assert list(found.settings) == ["share 0.1", "share 0.4", "share 0.8"]
    assert found.places == {"share 0.1": 0.1, "share 0.4": 0.4, "share 0.8": 0.8}
    shared = found.settings["share 0.4"]  # as configured
    assert found.settings["share 0.1"] == (*shared, "request.share=0.1")
    assert found.methods == {"laf_adam": ("forget=laf_adam",), "laf": ("forget=laf",)}


def test_comparisons_share_a_training_and_the_runs_that_are_the_same() -> None:
    one, other = (comparison(f"comparison=study/{name}") for name in ("align_lr", "align_rounds"))
    assert one.bases() == other.bases()
    (first, second) = (
        next(run for run in found.runs(found.bases()[0]) if run.method == found.default)
        for found in (one, other)
    )
    assert first.folder == second.folder
    assert first.overrides == second.overrides


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seeds=[]", "seeds: expected at least one seed"),
        ("seeds=[1,1]", "seeds: expected each seed once"),
        ("seeds=[-1]", "seeds: expected a whole number of at least 0"),
        ("only=[lafs]", "only: expected some of laf"),
        ("only=[]", "methods: expected at least one method"),
        ("+methods.nothing=[]", "methods: expected no 'nothing'"),
        (SWEEP, "methods: expected none beside a sweep"),
        (SWEEP.replace("forget.align.lr", "clients"), "over: expected none beside a sweep"),
        (SWEEP.replace("[3e-4, 3e-3]", "[]"), "sweep.values: expected at least one number"),
        (SWEEP.replace("3e-4", "0"), "sweep.values: expected a finite number above 0"),
        ("sweep=3", "sweep: expected null, or all of key, values, symbol, axis, log"),
        ("sweep={key: forget.align.lr}", "sweep: expected null, or all of key"),
        (SWEEP.replace("3e-4", "much"), "sweep.values: expected a finite number"),
    ],
)
def test_a_wrong_comparison_is_refused_in_a_line(override: str, line: str) -> None:
    with pytest.raises(InvalidValue, match=line):
        comparison(*([override] if "only" in override else [override, "only=null"]))


@pytest.mark.parametrize(
    ("runner", "line"),
    [("jobs=0", r"runner.jobs: expected a whole number of at least 1"),
     ("runner.retries=-1", r"runner.retries: expected a whole number of at least 0")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["local", "ray"])
def test_a_wrong_runner_is_refused_in_a_line(kind: str, runner: str, line: str) -> None:
    with pytest.raises(InvalidValue, match=line):
        made(composed((f"runner={kind}", runner), "compare"), "runner")


def test_only_a_report_of_the_same_configuration_counts_and_another_is_told_of(tmp_path: Path) -> None:
    base = comparison(f"folder={tmp_path}", "seeds=[3]").bases()[0]
    composed_job = job(base)
    config = plain(composed_job)
    said: list[str] = []
    assert finished(base, composed_job, said.append) is None
    assert not said
    base.folder.mkdir(parents=True)
    report = base.folder / "report.json"
    good: dict[str, Any] = {
        "config": {**config, "resume": "elsewhere"},
        "requests": [],
        "provenance": provenance_of(composed_job),
    }
    report.write_text(json.dumps(good))
    assert finished(base, composed_job, said.append) == good
    assert said.pop() == f"{report}: taken up"
    report.write_text(json.dumps({**good, "provenance": {**good["provenance"], "data": "other"}}))
    assert finished(base, composed_job, said.append) is None
    assert said.pop() == f"{report}: changed since: data, made again"
    for foreign in (
        json.dumps({**good, "config": {**config, "seed": 4}}),
        '{"config": ',
        "[1]",
        '{"config": 3}',
        "{}",
    ):
        report.write_text(foreign)
        assert finished(base, composed_job, said.append) is None
        assert said.pop() == f"{report}: not of this configuration, made again"
    report.write_bytes(b"\xff\xfe")
    assert finished(base, composed_job) is None
    report.unlink()
    report.mkdir()
    assert finished(base, composed_job) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-5, "1e-5"), (0.0003, "3e-4"), (2.5e-4, "2.5e-4"), (0.05, "0.05"), (20, "20"), (0, "0")],
)
def test_values_are_written_as_people_and_hydra_read_them(value: float, text: str) -> None:
    assert shown(value) == text
    assert float(text) == value


def test_folders_have_short_names_of_their_own() -> None:
    assert slug("experiment=paper/x", "a.b_c=[1,2]").startswith("experiment-paper-x-a.b_c-1-2-")
    assert slug("a=-0.1") != slug("a=0.1")
    one, other = (slug(*(f"some.key={i}" for i in range(n))) for n in (50, 51))
    assert one != other
    assert max(len(one), len(other)) < 100
