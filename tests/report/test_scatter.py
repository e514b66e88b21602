"""Seeds that scatter are noticed by the third run of a multirun, runs of other settings are not mixed in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedlaf.core.cost import Cost
from fedlaf.evaluation import Evaluation
from fedlaf.report import Report, RequestResult, compared


def report(seed: int, gap: float, **more: object) -> Report:
    models = {"unlearned": Evaluation({"accuracy_test": 80.0 + gap}),
              "retrained": Evaluation({"accuracy_test": 80.0})}  # fmt: skip
    served = RequestResult("request-1", 2, (0,), 10, (0,), models, {})
    config = {"seed": seed, "request": {"rows": {0: [1, 2]}}, **more}
    return Report(seed, "laf", (served,), (), Cost(), {}, {}, config)


def left(folder: Path, seed: int, gap: float, **more: object) -> None:
    from fedlaf.report import write

    folder.mkdir(parents=True)
    write(report(seed, gap, **more), folder)


@pytest.mark.parametrize(
    ("gaps", "names"), [((0.2, 9.0, 0.1), ["scatters over seeds"]), ((1.0, 1.2, 1.1), [])]
)
def test_three_seeds_are_judged(tmp_path: Path, gaps: tuple[float, ...], names: list[str]) -> None:
    for seed, gap in enumerate(gaps[:2]):
        left(tmp_path / str(seed), seed, gap)
    left(tmp_path / "9", 7, 50.0, clients=3)  # another configuration
    told = compared(report(2, gaps[2]), tmp_path / "2")
    assert [finding.name for finding in told.results[-1].findings] == names
    assert all(not finding.fatal for finding in told.results[-1].findings)


def test_two_seeds_are_not_judged_and_no_run_is_its_own_sibling(tmp_path: Path) -> None:
    left(tmp_path / "0", 0, 0.1)
    left(tmp_path / "1", 1, 9.0)
    assert compared(report(1, 9.0), tmp_path / "1").results[-1].findings == ()


def test_what_was_noticed_is_in_all_that_a_person_opens(tmp_path: Path) -> None:
    for seed, gap in ((0, 0.1), (1, 9.0)):
        left(tmp_path / str(seed), seed, gap)
    from fedlaf.report import write

    (tmp_path / "2").mkdir()
    write(compared(report(2, 0.3), tmp_path / "2"), tmp_path / "2")
    (request,) = json.loads((tmp_path / "2" / "report.json").read_text())["requests"]
    assert request["findings"][0]["name"] == "scatters over seeds"
    assert "noticed: scatters over seeds" in (tmp_path / "2" / "report.md").read_text()
