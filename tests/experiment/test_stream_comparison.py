"""Streams in a comparison: the figures of each method, and what carrying on is called."""

from __future__ import annotations

from math import isnan

import pytest
from support.streams import run_stream

from fedlaf.experiment.comparison.plan import Run
from fedlaf.experiment.comparison.rows import rows
from fedlaf.experiment.comparison.runs import Done
from fedlaf.experiment.comparison.stream_figures import FIGURES, stream_figures
from fedlaf.experiment.comparison.stream_table import stream_table
from fedlaf.experiment.comparison.table import table
from fedlaf.experiment.config import composed
from fedlaf.report.report import as_json

TRACE = [{"id": "a", "client": 1, "issued": 2, "deadline": 3}, {"id": "b", "client": 2, "issued": 3}]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> list[Done]:
    found = []
    for method in ("nothing", "laf", "fine_tune"):
        folder = tmp_path_factory.mktemp(method)
        report = as_json(run_stream(folder, TRACE, f"forget={method}").report)
        found.append(Done(Run("", method, 0, (), folder), report))
    return found


def test_each_method_has_all_figures(done: list[Done]) -> None:
    nothing, laf, tuned = (stream_figures(one.report or {}) for one in done)
    assert set(laf) == set(FIGURES)
    assert (nothing["served"], nothing["not_served"], nothing["missed"]) == (0, 2, 1)
    assert isnan(nothing["time_median"])
    assert nothing["exposure_median"] == 1.5  # two rounds and one, up to the end
    assert (laf["served"], laf["missed"], laf["time_median"]) == (2, 1, 2.0)
    assert tuned["time_median"] == 2.0
    assert laf["once"] < tuned["once"]
    assert stream_figures({}) == {}


def test_carrying_on_has_a_row_in_both_tables(done: list[Done]) -> None:
    found = rows(done)
    text = "\n".join(stream_table(found))
    for name in ("| carry_on (", "| laf |", "| fine_tune |", "time to forget, median (rounds)"):
        assert name in text
    assert "| carry_on (" in table(found)
    assert stream_table([]) == []


def test_the_shipped_comparison_composes_and_holds_the_methods_asked_for() -> None:
    config = composed(["comparison=stream"], "compare")
    methods = {"laf", "laf_repair", "federaser", "fukd", "fine_tune", "retrain"}
    assert methods <= set(config.methods)
