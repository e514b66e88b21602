"""Ctrl-C in processes of their own: the first ends the round and saves, the second ends at once."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest
from support.processes import ROOT, TESTS
from support.slow import HELD, HISTORY, LOG, SECONDS, SLOW, left_by_training

from fedlaf.experiment import interruption
from fedlaf.experiment.api import resume
from fedlaf.experiment.checkpoints import saved_stages
from fedlaf.experiment.comparison.plan import Run
from fedlaf.experiment.comparison.ray_tasks import RayTasks
from fedlaf.experiment.comparison.runs import NOT_STARTED, Done, run_all
from fedlaf.experiment.interruption import Interrupted


@contextmanager
def started(
    tmp_path: Path, *arguments: str, seconds: float = 0.0, held: int = 0
) -> Iterator[subprocess.Popen[str]]:
    """A fedlaf with a session of its own, as a terminal gives one. Its rounds take so many seconds, and the
    one of that number, counted over all stages, lasts until its run is asked to end."""
    path = os.pathsep.join([str(ROOT), str(TESTS)])
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, LOG: str(tmp_path / "log")}
    own |= {SECONDS: str(seconds), HELD: str(held)}
    with subprocess.Popen(
        [sys.executable, "-m", "fedlaf", *arguments], cwd=tmp_path, text=True, env={**os.environ, **own},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def interrupt(process: subprocess.Popen[str], log: Path, rounds: int) -> None:
    """What a terminal does on Ctrl-C, after so many rounds: a signal to every process of the session."""
    until = monotonic() + 120
    while not (log.is_file() and len(log.read_text().splitlines()) >= rounds):
        assert process.poll() is None, process.communicate()
        assert monotonic() < until
        sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)


def own_lines(err: str) -> list[str]:
    """What is said to the user beside the progress of stages."""
    return [line for line in err.splitlines() if line.startswith("fedlaf: ")]


def test_the_first_ends_the_round_of_a_multirun_and_says_how_to_go_on(tmp_path: Path) -> None:
    keys = (*SLOW, "engine=inline", "forget=fine_tune", "train.rounds=2,5", "hydra.sweep.dir=swept")
    with started(tmp_path, "-m", *keys, held=6) as process:
        interrupt(process, tmp_path / "log", 2 + 2 + 2)  # trained, retrained, then two rounds of the second
        out, err = process.communicate(timeout=60)
    assert process.returncode == interruption.EXIT_CODE
    first, last = own_lines(err)
    assert first == f"fedlaf: {interruption.FIRST}"
    assert last.startswith("fedlaf: error: interrupted after round 2 of 5 of train; saved in ")
    assert f"finished runs: {tmp_path / 'swept' / '0'}" in last
    assert "swept/1" not in out
    assert (tmp_path / "swept" / "0" / "report.json").is_file()
    assert not (tmp_path / "swept" / "1" / "report.json").exists()
    command = shlex.split(last.split("go on with: ")[1].split(";")[0])
    assert command[0] == "fedlaf"
    assert command[1] == "resume"
    found = resume(tmp_path / command[2])
    assert found.training.rounds == 5
    assert len(found.curves) == 5 + 2 + 5


def test_the_second_ends_at_once(tmp_path: Path) -> None:
    keys = (*SLOW, "engine=inline", "hydra.run.dir=run")
    with started(tmp_path, *keys, seconds=60) as process:
        interrupt(process, tmp_path / "log", 1)
        assert process.stderr is not None
        assert interruption.FIRST in process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=5)
    assert process.returncode == interruption.EXIT_CODE
    assert err == f"fedlaf: {interruption.SECOND}\n"


def test_a_comparison_starts_nothing_more_and_lists_what_is_finished(tmp_path: Path) -> None:
    base = ",".join(f"'{key}'" for key in (*SLOW, "engine=inline"))
    keys = (f"base=[{base}]", "scenario=[]", "seeds=[0,1]", "only=[fine_tune]", "jobs=1", "folder=compared")
    with started(tmp_path, "compare", *keys, held=12) as process:
        interrupt(process, tmp_path / "log", 5 + 5 + 2)  # the second training
        out, err = process.communicate(timeout=60)
    assert process.returncode == interruption.EXIT_CODE, (out, err)
    said = err.strip().splitlines()
    assert any(line.startswith("backdoor: 1/8 runs") for line in said)
    assert "IID, nothing, seed 1: interrupted after round 2 of 5 of train" in said
    assert "IID, fine_tune, seed 0: not started: interrupted" in said
    assert said[-1].startswith("fedlaf: error: interrupted with 1 runs finished: compared/runs/")
    assert f"go on with: {shlex.join(['fedlaf', 'compare', *keys])}" in said[-1]
    (rounds,) = (tmp_path / "compared").rglob("*.rounds")
    assert saved_stages(rounds.parents[1]) == ["train (2 rounds of it)"]
    assert not list((tmp_path / "compared").rglob("comparison.json"))


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_ray_workers_live_on_until_the_round_is_saved(tmp_path: Path) -> None:
    keys = (*SLOW, "engine=ray", "engine.workers=2", "hydra.run.dir=run")
    with started(tmp_path, *keys, held=2) as process:
        interrupt(process, tmp_path / "log", 2)
        _, err = process.communicate(timeout=60)
    assert process.returncode == interruption.EXIT_CODE
    first, last = own_lines(err)
    assert first == f"fedlaf: {interruption.FIRST}"
    assert "interrupted after round 2 of 5 of train; saved in " in last
    assert saved_stages(tmp_path / "run") == ["train (2 rounds of it)"]


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_ray_tasks_end_their_round_and_their_files_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Ray's workers have a path of their own
    monkeypatch.setenv(LOG, str(log))
    monkeypatch.setenv(SECONDS, "1")
    keys = (*SLOW, "engine=inline", HISTORY, "forget=nothing")
    runs = [Run(name, "nothing", 0, keys, tmp_path / name) for name in ("a", "b")]
    told: list[Done] = []

    def ran() -> None:
        told.clear()
        run_all(runs, lambda _: [], RayTasks(jobs=1), told.append, lambda _: None)

    with (
        interruption.told_by(lambda: log.is_file() and len(log.read_text().split()) >= 2),
        pytest.raises(Interrupted, match=r"^with 0 runs finished: none$"),
    ):
        ran()
    assert "after round" in told[0].error
    assert told[1].error == NOT_STARTED
    done = len(log.read_text().split())
    assert 2 <= done < 5
    assert (tmp_path / "a" / "stages" / "train.rounds").is_dir()
    monkeypatch.setenv(SECONDS, "0")
    ran()
    assert [one.error for one in told] == ["", ""]
    of_each = log.read_text().split()[done:5]
    assert of_each == [str(number) for number in range(done + 1, 6)]  # the first goes on after its rounds
    assert left_by_training(tmp_path / "a") == left_by_training(tmp_path / "b")


@pytest.mark.parametrize("library", ["_multiarray_umath", "libtorch_cpu", "_raylet"])
def test_before_a_run_begins_it_is_a_line(tmp_path: Path, library: str) -> None:
    """Also in the middle of an import, where libraries make exceptions of their own of it."""
    with started(tmp_path, "engine=inline") as process:
        # A time would come before Python itself has begun, on a busy machine.
        maps, until = Path(f"/proc/{process.pid}/maps"), monotonic() + 60
        while library not in maps.read_text():
            assert process.poll() is None
            assert monotonic() < until
            sleep(0.005)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == interruption.EXIT_CODE
    assert err.splitlines() == ["fedlaf: error: interrupted"]
