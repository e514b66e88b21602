"""A run that the user interrupts ends after its round; what was saved goes on bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig
from support.runs import composed, run_plan
from support.slow import HISTORY, SLOW, left_by_training

from fedlaf.core.cost import PEAKS, Cost
from fedlaf.experiment import interruption
from fedlaf.experiment.comparison import runs as comparison_runs
from fedlaf.experiment.comparison.plan import Run, job
from fedlaf.experiment.comparison.runs import NOT_STARTED, Done, Submit, run_all
from fedlaf.experiment.interruption import Interrupted
from fedlaf.experiment.plan import prepare
from fedlaf.report import Report


def made(folder: Path, *overrides: str) -> Report:
    return run_plan(
        prepare(composed(*SLOW, "engine=inline", "forget=fine_tune", HISTORY, *overrides)), folder
    )[1]


@contextmanager
def interrupted(*, after: int, at: int) -> Iterator[None]:
    """The user wants to end after so many rounds of this run, which is round `at` of the training."""
    asked = iter(range(100))  # once before the stage, then once a round
    with interruption.told_by(lambda: next(asked) >= after), pytest.raises(Interrupted) as stopped:
        yield
    assert f"after round {at} of 5 of train" in str(stopped.value)


def counted(cost: Cost) -> Cost:
    return replace(cost, client_seconds=0.0, **dict.fromkeys(PEAKS, 0.0))


@pytest.mark.parametrize("cohort", ["null", "1"])
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path: Path, cohort: str) -> None:
    keys = (f"train.cohort={cohort}",)
    whole = made(tmp_path / "whole", *keys)
    with interrupted(after=2, at=2):
        made(tmp_path / "first", *keys)
    assert not (tmp_path / "first" / "stages" / "train.json").exists()
    with interrupted(after=2, at=4):  # in the same folder
        made(tmp_path / "first", *keys, f"resume={tmp_path / 'first'}")
    later = made(tmp_path / "later", *keys, f"resume={tmp_path / 'first'}")
    assert left_by_training(tmp_path / "later") == left_by_training(tmp_path / "whole")
    assert later.curves == whole.curves
    assert counted(later.training) == counted(whole.training)
    assert later.answers == whole.answers
    assert not list((tmp_path / "later" / "stages").glob("*.rounds"))


def test_a_run_of_a_comparison_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    keys = (*SLOW, "engine=inline", HISTORY, "forget=nothing")
    begun, whole = (Run("", "nothing", 0, keys, tmp_path / name) for name in ("begun", "whole"))
    with interruption.told_by(lambda: True):
        done = comparison_runs.made(begun, job(begun))
    assert (done.error, done.interrupted) == ("interrupted before train", True)
    asked = iter(range(100))
    with interruption.told_by(lambda: next(asked) >= 3):
        done = comparison_runs.made(begun, job(begun))
    assert (done.error, done.report) == ("interrupted after round 3 of 5 of train", None)
    again, other = (comparison_runs.made(run, job(run)).report for run in (begun, whole))
    assert again is not None
    assert other is not None
    assert again["config"] == other["config"]
    assert again["requests"][0]["models"] == other["requests"][0]["models"]
    assert again["seconds"]["train"] > 0
    assert left_by_training(tmp_path / "begun") == left_by_training(tmp_path / "whole")


class Interrupting:
    """A runner in whose second run the user interrupts."""

    elsewhere = False

    def __init__(self) -> None:
        self.made: list[str] = []

    @contextmanager
    def started(self) -> Iterator[Submit]:
        def submit(run: Run, config: DictConfig) -> Future[Done]:
            self.made.append(run.setting)
            future: Future[Done] = Future()
            future.set_result(Done(run, {"config": {}, "requests": []}))
            return future

        yield submit


def test_no_run_is_started_after_the_user_has_interrupted(tmp_path: Path) -> None:
    runs = [Run(name, "nothing", 0, (*SLOW, "forget=nothing"), tmp_path / name) for name in ("a", "b", "c")]
    runner, told = Interrupting(), list[Done]()
    with (
        interruption.told_by(lambda: len(runner.made) > 1),
        pytest.raises(Interrupted, match=rf"^with 2 runs finished: {tmp_path}/a, {tmp_path}/b$"),
    ):
        run_all(runs, lambda _: [], runner, told.append, lambda _: None)
    assert runner.made == ["a", "b"]
    assert {done.run.setting: done.error for done in told if done.error} == {"c": NOT_STARTED}
