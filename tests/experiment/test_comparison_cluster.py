"""A comparison over a Ray cluster of two nodes that share no files, one of which is lost on the way."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.comparisons import in_order, left_by, small
from support.processes import QUIET_RAY

SEEDS = (0,)

SCRIPT = """
    import os
    import sys
    from pathlib import Path
    from threading import Thread
    from time import sleep

    sys.path[:0] = {folders!r}
    from ray.cluster_utils import Cluster
    from support.comparisons import small, unlucky

    from fedlaf.experiment.comparison.ray_tasks import RayTasks
    from fedlaf.experiment.comparison.runs import run_all

    HEALTH = {{"health_check_initial_delay_ms": 500, "health_check_period_ms": 500,
               "health_check_timeout_ms": 3000, "health_check_failure_threshold": 4}}
    ARGS = {{"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}}
    cluster = Cluster(initialize_head=True, head_node_args={{**ARGS, "_system_config": HEALTH}})
    second = cluster.add_node(**ARGS)
    cluster.wait_for_nodes()
    folder = Path({folder!r})
    keys = {{name: unlucky(folder / name, 0, 3.0) for name in ("one", "two", "three")}}

    def lose():
        logs = [folder / name for name in keys]
        while not any(second.node_id in log.read_text() for log in logs if log.exists()):
            sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)

    Thread(target=lose, daemon=True).start()

    def watch(done):
        print(done.run.method, done.run.seed, done.error, flush=True)

    runner = RayTasks(address=cluster.address)
    comparison = small(folder / "found", {seeds!r}, **keys)
    done = run_all(comparison.bases(), comparison.runs, runner, watch, print)
    cluster.shutdown()
    assert len(done) == 4 * len({seeds!r})
    assert not [one.error for one in done if one.error]
    (folder / "finished").touch()
"""


@pytest.mark.xdist_group("cluster")
def test_a_lost_nodes_runs_start_again_elsewhere_with_the_same_bits(tmp_path: Path) -> None:
    here = Path(__file__).parents[1]
    folders = [str(here.parent), str(here)]
    script = textwrap.dedent(SCRIPT).format(folders=folders, folder=str(tmp_path), seeds=SEEDS)
    own = {"OMP_NUM_THREADS": "1", **QUIET_RAY}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=280,
        env={**os.environ, **own, "PYTHONPATH": os.pathsep.join(folders)}, check=False,
    )  # fmt: skip
    assert (tmp_path / "finished").is_file(), done.stdout + done.stderr[-3000:]
    attempts = [
        line for name in ("one", "two", "three") for line in (tmp_path / name).read_text().splitlines()
    ]
    assert len(set(attempts)) == 2  # nodes
    assert len(attempts) == 3 * len(SEEDS) + 1  # what ran on the lost node has begun twice
    expected = in_order(small(tmp_path / "expected", SEEDS, brief=()))
    found = small(tmp_path / "found", SEEDS, one=(), two=(), three=())
    for base in found.bases():
        assert left_by(base) == expected["nothing", base.seed]
    reports = list((tmp_path / "found").rglob("report.json"))
    assert len(reports) == 4 * len(SEEDS)
    weights = {path.read_bytes() for path in (tmp_path / "found").rglob("stages/request-1.safetensors")}
    wanted = {path.read_bytes() for path in (tmp_path / "expected").rglob("stages/request-1.safetensors")}
    assert weights == wanted
