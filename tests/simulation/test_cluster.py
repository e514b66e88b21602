"""A Ray cluster of two nodes on loopback, started and stopped here: joined, used, left as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from support.federations import same_bits
from test_engines import told_by

from fedlaf.core.types import Weights
from fedlaf.simulation import Inline


@pytest.fixture(scope="module")
def inline() -> dict[str, Weights]:
    return told_by(Inline())


SCRIPT = '''
    import logging, os, sys
    from time import monotonic, sleep
    sys.path[:0] = {tests!r}
    import numpy as np
    import ray
    from ray.cluster_utils import Cluster
    from fedlaf.simulation import RayCluster, RayGrid
    from fedlaf.simulation import ray_grid
    from fedlaf.simulation.ray.pool import alive
    from fedlaf.core.types import InvalidValue
    from fedlaf.protocol.messages import Action
    from test_engines import SPEC, told_by, story

    HEALTH = {{"health_check_initial_delay_ms": 500, "health_check_period_ms": 500,
               "health_check_timeout_ms": 3000, "health_check_failure_threshold": 4}}
    ARGS = {{"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}}
    cluster = Cluster(initialize_head=True, head_node_args={{**ARGS, "_system_config": HEALTH}})
    second = cluster.add_node(**ARGS)
    cluster.wait_for_nodes()
    lose = {lose!r}
    seen = []

    class Losing(RayGrid):
        """Loses the second node in the middle of a round of that kind, if one is named."""

        def _results(self, reference, batch, queues):
            kind = batch.items[0].message.metadata.message_type
            seen.append(len({{p for p, a in zip(self.pool.places, self.pool.actors) if a is not None}}))
            if lose == kind and len(cluster.list_all_nodes()) == 2:
                cluster.remove_node(second, allow_graceful=False)
            return super()._results(reference, batch, queues)

    import fedlaf.simulation.ray.engine as engine
    engine.RayGrid = Losing
    if not lose:  # what does not fit is refused, and leaves no worker waiting
        for more, free in (({{"memory_mb": 10**6}}, "memory"), ({{"workers": 3}}, "at most 2: free are")):
            try:
                told_by(RayCluster(cluster.address, **more))
            except InvalidValue as refused:
                assert refused.key == "engine.workers" and free in refused.expected, refused
            else:
                raise SystemExit(f"{{more}} was taken")
    found = told_by(RayCluster(cluster.address))
    assert not ray.is_initialized()
    # It still stands, and nothing of ours is left in it.
    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False,
             configure_logging=False)
    nodes, until = len(alive()), monotonic() + 30
    while ray.available_resources().get("CPU") != nodes and monotonic() < until:
        sleep(0.2)
    assert ray.available_resources()["CPU"] == nodes
    ray.shutdown()
    cluster.shutdown()
    assert seen[0] == 2
    np.savez({target!r}, nodes=np.array([nodes, seen[-1]]),
             **{{f"{{s}}/{{k}}": v for s, w in found.items() for k, v in w.items()}})
'''


@pytest.mark.parametrize(
    ("lose", "left"),
    [("", 2), ("train.fit", 1), ("train.align", 1)],
    ids=["both stay", "lost in training", "lost in forgetting"],
)
def test_two_nodes_give_the_bits_of_inline_also_when_one_is_lost(
    lose: str, left: int, tmp_path: Path, inline: dict[str, Weights]
) -> None:
    target = tmp_path / "found.npz"
    here = Path(__file__).parent
    folders = [str(here.parent.parent), str(here), str(here.parent)]
    script = textwrap.dedent(SCRIPT).format(tests=folders, target=str(target), lose=lose)
    own = {"OMP_NUM_THREADS": "1", "RAY_memory_monitor_refresh_ms": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=240,
        env={**os.environ, **own, "PYTHONPATH": os.pathsep.join(folders)}, check=False,
    )  # fmt: skip
    assert target.is_file(), done.stderr[-3000:]
    with np.load(target) as held:
        assert list(held["nodes"]) == [left, left]
        for stage, weights in inline.items():
            assert same_bits({k: held[f"{stage}/{k}"] for k in weights}, weights), stage
