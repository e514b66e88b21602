"""The order of a comparison's runs, what is kept, and what a failure costs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig
from support.comparisons import small

from fedlaf.core.errors import InvalidValue
from fedlaf.experiment.comparison import runs
from fedlaf.experiment.comparison.plan import ORIGINAL, Comparison, Run, job
from fedlaf.experiment.comparison.runs import Done, Submit, made, run_all, save
from fedlaf.experiment.config import plain
from fedlaf.experiment.plan import provenance_of
from fedlaf.experiment.provenance import DEVICE

KEYS = {"one": (), "other": ("forget.align.steps=3",)}


def finished_report(config: DictConfig) -> dict[str, object]:
    served = [{"stopped": False, "findings": []}]
    return {"config": plain(config), "provenance": provenance_of(config), "requests": served}


class Scripted:
    """A runner that makes nothing: `outcome` says what becomes of each run."""

    elsewhere = False

    def __init__(self, outcome: Callable[[Run, DictConfig], Done]) -> None:
        self.outcome, self.asked = outcome, list[tuple[str, int]]()

    @contextmanager
    def started(self) -> Iterator[Submit]:
        def submit(run: Run, config: DictConfig) -> Future[Done]:
            self.asked.append((run.method, run.seed))
            future: Future[Done] = Future()
            try:
                future.set_result(self.outcome(run, config))
            except Exception as error:
                future.set_exception(error)
            return future

        yield submit


def ran(comparison: Comparison, outcome: Callable[[Run, DictConfig], Done]) -> tuple[Scripted, list[Done]]:
    runner = Scripted(outcome)
    told: list[Done] = []
    done = run_all(comparison.bases(), comparison.runs, runner, told.append, lambda _: None)
    assert told == done
    return runner, done


def succeeding(run: Run, config: DictConfig) -> Done:
    assert config.seed == run.seed
    return Done(run, finished_report(config))


def succeeding_on_disk(run: Run, config: DictConfig) -> Done:
    report = finished_report(config)
    return Done(run, report, files={"report.json": json.dumps(report).encode()})


def test_a_training_comes_before_its_methods_and_each_run_is_made_once(tmp_path: Path) -> None:
    runner, done = ran(small(tmp_path, (0, 1), **KEYS), succeeding)
    everything = {(method, seed) for method in (ORIGINAL, *KEYS) for seed in (0, 1)}
    assert len(runner.asked) == len(done) == 6
    assert set(runner.asked) == everything
    for seed in (0, 1):
        own = [method for method, s in runner.asked if s == seed]
        assert own[0] == ORIGINAL
    assert not any(one.error for one in done)


def test_a_training_that_fails_costs_the_runs_of_its_seed(tmp_path: Path) -> None:
    def outcome(run: Run, config: DictConfig) -> Done:
        return Done(run, None, "no data") if run.seed == 1 else succeeding(run, config)

    runner, done = ran(small(tmp_path, (0, 1), **KEYS), outcome)
    assert [method for method, seed in runner.asked if seed == 1] == [ORIGINAL]
    errors = {(one.run.method, one.run.seed): one.error for one in done}
    assert errors == {
        (ORIGINAL, 0): "", ("one", 0): "", ("other", 0): "",
        (ORIGINAL, 1): "no data", ("one", 1): "its training: no data", ("other", 1): "its training: no data",
    }  # fmt: skip


def test_a_run_that_is_lost_is_a_failure_and_others_go_on(tmp_path: Path) -> None:
    def outcome(run: Run, config: DictConfig) -> Done:
        if run.method == "one":
            raise ConnectionError("the node went away\nand more")
        return succeeding(run, config)

    _, done = ran(small(tmp_path, **KEYS), outcome)
    errors = {one.run.method: one.error for one in done}
    assert errors == {ORIGINAL: "", "one": "ConnectionError: the node went away", "other": ""}


def test_what_a_runner_cannot_take_ends_the_comparison(tmp_path: Path) -> None:
    def outcome(run: Run, config: DictConfig) -> Done:
        raise InvalidValue("engine", "inline", "ray")

    with pytest.raises(InvalidValue, match="engine: expected inline"):
        ran(small(tmp_path, **KEYS), outcome)


def test_files_from_elsewhere_are_saved_and_then_not_made_again(tmp_path: Path) -> None:
    def outcome(run: Run, config: DictConfig) -> Done:
        report = finished_report(config)
        files = {"report.json": json.dumps(report).encode(), "stages/deep/a": b"\x00\xff"}
        return Done(run, report, files=files)

    comparison = small(tmp_path, **KEYS)
    _, done = ran(comparison, outcome)
    for one in done:
        assert not one.files  # not held on to
        assert (one.run.folder / "stages/deep/a").read_bytes() == b"\x00\xff"
    runner, again = ran(comparison, outcome)
    assert not runner.asked
    assert again == done
    (done[1].run.folder / "report.json").write_text("a foreign file")
    said: list[str] = []
    runner = Scripted(outcome)
    run_all(comparison.bases(), comparison.runs, runner, lambda _: None, said.append)
    assert runner.asked == [(done[1].run.method, 0)]
    assert [line.rpartition(": ")[2] for line in said] == [
        "taken up", "not of this configuration, made again", "taken up",
    ]  # fmt: skip


@pytest.mark.parametrize("changed", ["source code", "versions of libraries", "data", DEVICE])
def test_what_was_made_with_something_else_is_made_again(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = small(tmp_path)
    ran(comparison, succeeding_on_disk)
    real = runs.provenance_of
    monkeypatch.setattr(runs, "provenance_of", lambda config: {**real(config), changed: "other"})
    runner, said = Scripted(succeeding_on_disk), list[str]()
    run_all(comparison.bases(), comparison.runs, runner, lambda _: None, said.append)
    assert runner.asked == [(ORIGINAL, 0)]
    assert [line.partition(": ")[2] for line in said] == [f"changed since: {changed}, made again"]
    runner = Scripted(succeeding_on_disk)
    runner.elsewhere = True  # where machines may be of another kind
    run_all(comparison.bases(), comparison.runs, runner, lambda _: None, said.append)
    assert runner.asked == ([] if changed == DEVICE else [(ORIGINAL, 0)])


def test_a_run_that_another_source_began_begins_anew(tmp_path: Path) -> None:
    """Its request was served, and its process has ended before the report: none of it can be taken up, and
    nobody has withdrawn from the run that begins.
    """
    (base,) = small(tmp_path, brief=()).bases()
    assert not made(base, job(base)).error
    record = base.folder / "run.json"
    found = json.loads(record.read_text())
    record.write_text(json.dumps({**found, "provenance": {**found["provenance"], "source": "another"}}))
    (base.folder / "report.json").unlink()
    for stage in (base.folder / "stages").glob("train*"):
        if stage.is_file():
            stage.unlink()
    assert json.loads((base.folder / "withdrawn.json").read_text())["clients"]
    assert made(base, job(base)).error == ""


def test_the_report_is_saved_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[str] = []
    real = Path.replace

    def watched(self: Path, target: Path) -> Path:
        saved.append(Path(target).name)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    save({"report.json": b"1", "z": b"2", "a/b": b"3"}, tmp_path)
    assert sorted(saved) == ["b", "report.json", "z"]
    assert saved[-1] == "report.json"


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        (("forget=laf_adam", "forget.align_rounds=0"), "forget.align_rounds: expected"),
        (("forget=fukd",), "server_rows: expected at least 1"),
        (("forget=laf_adam", "forget._target_=support.nowhere.Nothing"), "forget._target_: expected"),
    ],
)
def test_a_run_that_cannot_be_made_is_told_in_a_line(
    keys: tuple[str, ...], error: str, tmp_path: Path
) -> None:
    run = small(tmp_path).bases()[0]
    shared = run.overrides[:-1]
    own = keys if keys[0].startswith("forget=") else ("forget=laf_adam", *keys)
    done = made(replace(run, overrides=(*shared, *own)), job(replace(run, overrides=(*shared, *own))))
    assert done.report is None
    assert done.error.startswith(error)
    assert "\n" not in done.error
