"""A process with a Ray cluster of two nodes on loopback: `python -m support.ray_nodes FILE.npz [KIND]`.

With a kind of messages it loses the second node while it waits for the first answer of that kind.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
import ray
from flwr.app import Message
from ray.cluster_utils import Cluster

from fedlaf.core.errors import InvalidValue
from fedlaf.simulation import RayCluster, RayGrid
from fedlaf.simulation.ray import engine
from fedlaf.simulation.ray.pool import alive
from support.engines import by_name, weights_on

HEALTH = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 4,
}
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
TOO_MUCH = (({"memory_mb": 10**6}, "memory"), ({"workers": 3}, "at most 2: free are"))


class WatchedGrid(RayGrid):
    """Says which round is on, and on how many nodes its workers are."""

    now: WatchedGrid
    kind = ""

    def answers(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        WatchedGrid.now, self.kind = self, "".join({m.metadata.message_type for m in messages})
        return super().answers(messages, timeout)

    def nodes(self) -> int:
        pairs = zip(self.pool.places, self.pool.actors, strict=True)
        return len({place for place, actor in pairs if actor is not None})


def main(target: str, lose: str = "") -> None:
    """Write weights by stage to `target`, and `nodes`: those of the cluster and those in use at the end."""
    cluster, second = two_nodes()
    used: list[int] = []
    wait = ray.wait

    def losing(references: list[Any], **more: Any) -> Any:
        found = wait(references, **more)
        used.append(WatchedGrid.now.nodes())
        if lose == WatchedGrid.now.kind and len(cluster.list_all_nodes()) == 2:
            cluster.remove_node(second, allow_graceful=False)
        return found

    ray.wait = losing
    engine.RayGrid = WatchedGrid  # type: ignore[misc]
    if not lose:
        refuses_what_does_not_fit(cluster.address)
    found = weights_on(RayCluster(cluster.address))
    assert not ray.is_initialized()
    nodes = left_alone(cluster.address)
    cluster.shutdown()
    assert used[0] == 2
    np.savez(target, nodes=np.array([nodes, used[-1]]), **by_name(found))


def two_nodes() -> tuple[Cluster, Any]:
    """A cluster of two nodes that are up, and the second of them."""
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": HEALTH})
    second = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    return cluster, second


def refuses_what_does_not_fit(address: str) -> None:
    """It is refused, and leaves no worker waiting."""
    for more, expected in TOO_MUCH:
        with pytest.raises(InvalidValue, match=f"engine.workers: .*{expected}"):
            weights_on(RayCluster(address, **more))  # type: ignore[arg-type]


def left_alone(address: str) -> int:
    """How many nodes still stand; nothing of ours is left in them."""
    ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, configure_logging=False)
    nodes, until = len(alive()), monotonic() + 30
    while ray.available_resources().get("CPU") != nodes and monotonic() < until:
        sleep(0.2)
    assert ray.available_resources()["CPU"] == nodes
    ray.shutdown()
    return nodes


if __name__ == "__main__":
    main(*sys.argv[1:])
