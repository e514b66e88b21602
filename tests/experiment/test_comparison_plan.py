"""What a comparison runs, and how a wrong one is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedlaf.core.errors import InvalidValue
from fedlaf.experiment.comparison.plan import ORIGINAL, Comparison, finished, job
from fedlaf.experiment.config import composed, plain
from fedlaf.experiment.plan import prepare

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(file.stem for file in (CONF / "comparison").glob("*.yaml"))


def comparison(*overrides: str) -> Comparison:
    return Comparison.of(composed(overrides, "compare"))


@pytest.mark.parametrize("name", NAMES)
def test_every_comparison_composes_and_so_do_all_of_its_jobs(name: str) -> None:
    found = comparison(f"comparison={name}")
    assert found.name == name  # else two comparisons would share a folder
    folders = []
    for base in found.bases():
        assert base.after is None
        folders.append(base.folder)
        assert job(base).forget._target_ == "fedlaf.strategies.nothing.Nothing"
        if base.seed != found.seeds[0]:
            continue
        for run in found.runs(base):
            assert run.after == base.folder
            assert job(run).seed == run.seed
            folders.append(run.folder)
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_of_a_comparison_can_start(name: str) -> None:
    found = comparison(f"comparison={name}")
    for base in found.bases():
        if base.seed == found.seeds[0]:
            small = ("data=fashion_sample", "data.train_rows=1000", "data.test_rows=50")
            plan = prepare(composed([*base.keys, *small]), ORIGINAL)
            assert len(plan.schedule) == 1  # one request, of rows that are there


def test_a_method_is_the_forget_option_of_its_name_unless_it_chooses_one() -> None:
    found = comparison('+methods.mild=["forget=laf","forget.align_rounds=1"]', "only=[laf,mild]")
    assert found.methods == {"laf": ("forget=laf",), "mild": ("forget=laf", "forget.align_rounds=1")}


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seeds=[]", "seeds: expected at least one seed"),
        ("seeds=[1,1]", "seeds: expected each seed once"),
        ("seeds=[-1]", "seeds: expected a whole number of at least 0"),
        ("jobs=0", "jobs: expected a whole number of at least 1"),
        ("only=[lafs]", "only: expected some of laf"),
        ("only=[]", "methods: expected at least one method"),
        ("+methods.nothing=[]", "methods: expected no 'nothing'"),
    ],
)
def test_a_wrong_comparison_is_refused_in_a_line(override: str, line: str) -> None:
    with pytest.raises(InvalidValue, match=line):
        comparison(*([override] if "only" in override else [override, "only=null"]))


def test_only_a_report_of_the_same_configuration_counts(tmp_path: Path) -> None:
    base = comparison(f"folder={tmp_path}", "seeds=[3]").bases()[0]
    config = plain(job(base))
    assert finished(base, config) is None
    base.folder.mkdir(parents=True)
    report = base.folder / "report.json"
    report.write_text(json.dumps({"config": {**config, "resume": "elsewhere"}}))
    assert finished(base, config) is not None
    report.write_text(json.dumps({"config": {**config, "seed": 4}}))
    assert finished(base, config) is None
    report.write_text('{"config": ')
    assert finished(base, config) is None
    assert base.method == ORIGINAL
