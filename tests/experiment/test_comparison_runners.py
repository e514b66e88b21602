"""Processes of this machine and Ray tasks: the same bits, and a worker that dies costs only its run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
from support.comparisons import in_order, left_by, small, unlucky

from fedlaf.core.errors import InvalidValue
from fedlaf.experiment.comparison.local import Local
from fedlaf.experiment.comparison.plan import Comparison
from fedlaf.experiment.comparison.ray_tasks import RayTasks
from fedlaf.experiment.comparison.runs import Runner, run_all

pytestmark = pytest.mark.xdist_group("ray")
RUNNERS = {"local": Local(jobs=2, retries=1), "ray": RayTasks(jobs=2, retries=1)}


def ran(comparison: Comparison, runner: Runner) -> tuple[dict[tuple[str, int], Any], dict[str, str]]:
    done = run_all(comparison.bases(), comparison.runs, runner, lambda _: None, lambda _: None)
    errors = {one.run.method: one.error for one in done if one.error}
    return {(one.run.method, one.run.seed): left_by(one.run) for one in done if not one.error}, errors


@pytest.mark.parametrize("runner", RUNNERS)
def test_runs_are_the_bits_of_one_after_the_other_and_deaths_cost_a_retry(
    runner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Ray's workers have a path of their own
    keys = {
        "brief": (),
        "killed once": unlucky(tmp_path / f"{runner}-once", 1),
        "killed twice": unlucky(tmp_path / f"{runner}-twice", 2),
    }
    found, errors = ran(small(tmp_path / "own folder", **keys), RUNNERS[runner])
    assert not ray.is_initialized()
    assert list(errors) == ["killed twice"], errors
    assert "died" in errors["killed twice"]
    assert (tmp_path / f"{runner}-once").read_text().count("attempt") == 2
    expected = in_order(small(tmp_path / "expected", brief=()))
    assert found["nothing", 0] == expected["nothing", 0]
    assert found["brief", 0] == expected["brief", 0]
    assert found["killed once", 0]["models"] == expected["brief", 0]["models"]


def test_a_ray_that_is_there_is_used_and_left(tmp_path: Path) -> None:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        found, errors = ran(small(tmp_path), RayTasks(address="nowhere:1"))
        assert (len(found), errors) == (1, {})
        with pytest.raises(InvalidValue, match=r"runner.gpus_per_run: expected at most the 0 "):
            ran(small(tmp_path), RayTasks(gpus_per_run=1))
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def test_only_inline_runs_can_be_ray_tasks(tmp_path: Path) -> None:
    comparison = small(tmp_path)
    other = Comparison("o", "", "", {"": (*comparison.settings[""], "engine=ray")}, {}, (0,), tmp_path)
    with pytest.raises(InvalidValue, match="engine: expected inline"):
        ran(other, RayTasks(jobs=1))
