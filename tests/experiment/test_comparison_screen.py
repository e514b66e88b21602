"""What a comparison shows while it goes on and when it ends, and the flat rows that it leaves."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest
from omegaconf import DictConfig
from rich.console import Console
from support.comparisons import in_order, small

from fedlaf.experiment.comparison.brief import brief
from fedlaf.experiment.comparison.plan import Comparison, Run, job
from fedlaf.experiment.comparison.progress import RunsProgress
from fedlaf.experiment.comparison.records import records, write_records
from fedlaf.experiment.comparison.rows import Row
from fedlaf.experiment.comparison.runs import Done, Submit, finished
from fedlaf.report import Lines, load
from fedlaf.report.intervals import Interval


class Waiting:
    """A runner whose runs begin and end when the test says so."""

    elsewhere = False

    def __init__(self) -> None:
        self.futures: dict[str, Future[Done]] = {}

    @contextmanager
    def started(self) -> Iterator[Submit]:
        def submit(run: Run, config: DictConfig) -> Future[Done]:
            return self.futures.setdefault(run.method, Future())

        yield submit


def run(method: str) -> Run:
    return Run("IID", method, 0, (), Path("nowhere"))


def test_a_line_tells_what_ended_what_failed_and_what_is_at_work() -> None:
    stream, runner = io.StringIO(), Waiting()
    progress = RunsProgress("backdoor", 5, runner, Lines(Console(file=stream)))
    with progress.started() as submit:
        for name in "abcd":
            submit(run(name), DictConfig({}))
        progress.ended(Done(run("kept"), {}))  # it was there: it says nothing of the pace
        for name in "abc":
            runner.futures[name].set_running_or_notify_cancel()
        progress.ended(Done(run("a"), None, "no luck"))
        progress.ended(Done(run("b"), {}))
        progress.ended(Done(run("c"), {}))
        progress.ended(Done(run("d"), {}))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "backdoor: 1/5 runs, 4 submitted"
    assert lines[1] == "IID, a, seed 0: no luck"
    assert lines[2] == "backdoor: 2/5 runs, 0:00 left, 1 failed, now IID, b, seed 0; IID, c, seed 0"
    assert lines[-1] == "backdoor: 5/5 runs, 0:00, 1 failed"


def row(setting: str, method: str, gap: float, half: float = nan, **more: object) -> Row:
    numbers = dict.fromkeys(("accuracy_forget", "accuracy_test"), Interval(-1.0, 0.5))
    shares = {"passes": 2.6}
    made = Row(setting, method, Interval(gap, half), numbers, {}, shares, 0.0, Interval(0.5, nan))
    return replace(made, **more)  # type: ignore[arg-type]


def comparison(folder: Path, settings: tuple[str, ...], methods: int) -> Comparison:
    names = {f"method number {i:02} with a name": () for i in range(methods)}
    return Comparison("many", "Many methods", "", dict.fromkeys(settings, ()), names, (1, 2), folder)


@pytest.mark.parametrize(("settings", "methods"), [(("",), 22), (("IID", "Dirichlet 0.3"), 22),
                                                   (tuple(f"lr={i}" for i in range(9)), 2)])  # fmt: skip
def test_it_ends_on_one_screen(settings: tuple[str, ...], methods: int, tmp_path: Path) -> None:
    made = comparison(tmp_path, settings, methods)
    found = [row(s, m, 9.0 - i / 4, 0.25) for s in settings for i, m in enumerate(made.methods)]
    found += [row(s, "nothing", 15.0) for s in settings]
    found[0] = replace(found[0], gap=Interval(nan, nan), errors={1: "it broke " * 20, 2: "and again"})
    lines = brief(made, found).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines[:-1])) <= 80
    best = list(made.methods)[-1]
    assert f"closest, {9 - (methods - 1) / 4:.2f} ± 0.25 points (retrainings 0.50): {best[:13]}" in lines[1]
    assert any(line.startswith("2 failed, the first: method number 00 with a name, seed 1") for line in lines)
    assert str(tmp_path / "many" / "comparison.html") in lines[-1]


def test_a_single_setting_has_the_closest_first_and_failures_last(tmp_path: Path) -> None:
    made = comparison(tmp_path, ("",), 3)
    names = list(made.methods)
    found = [row("", names[0], nan), row("", names[1], 2.0, 0.5), row("", names[2], 1.0)]
    found.append(row("", "nothing", 7.0))
    lines = brief(made, found).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("---")) + 1
    shown = [line[:29].strip() for line in lines[start : start + 4]]
    assert shown == [names[2], names[1], "doing nothing", names[0]]
    assert lines[start + 1].split()[-7:] == ["2.00", "±", "0.50", "-1.00", "±", "0.50", "2.6"]


def test_flat_rows_are_those_of_the_reports_and_pandas_and_polars_read_them(tmp_path: Path) -> None:
    made = small(tmp_path / "runs", mine=())
    in_order(made)
    runs = [one for base in made.bases() for one in (base, *made.runs(base))]
    done = [Done(one, finished(one, job(one))) for one in runs]
    lost = Done(replace(runs[1], method="lost"), None, "it broke")
    write_records([*done, lost], tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert lines == records(done)
    assert {line["method"] for line in lines} == {"nothing", "mine"}
    of_mine = [r for r in lines if (r["method"], r["model"]) == ("mine", "unlearned")]
    (found,) = [r["value"] for r in of_mine if r["name"] == "gap"]
    assert found == load(runs[1].folder).measure("gap")
    pytest.importorskip("pyarrow", reason="pip install 'fedlaf[parquet]'")
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    path = tmp_path / "results.parquet"
    assert polars.read_parquet(path).to_dicts() == lines
    frame = pandas.read_parquet(path)
    assert frame["value"].dtype == float
    assert frame["limit"].dtype == float  # although no row has one
    mine = frame[(frame.method == "mine") & (frame.model == "unlearned") & (frame.name == "gap")]
    assert mine["value"].tolist() == [found]
