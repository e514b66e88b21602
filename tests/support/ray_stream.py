"""A stream on a Ray cluster of two nodes on loopback: `python -m support.ray_stream FOLDER TRACE`."""

from __future__ import annotations

import sys
from pathlib import Path

from ray.cluster_utils import Cluster

import fedlaf
from support.ray_nodes import HEALTH, NODE
from support.streams import SMALL


def main(folder: Path, trace: Path) -> None:
    """Leave the run in FOLDER/cluster; its requests are those of the trace."""
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": HEALTH})
    cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    keys = [key.replace("FILE", str(trace)) for key in SMALL if not key.startswith("engine")]
    fedlaf.run(
        *keys,
        "stream=trace",
        "engine=ray_cluster",
        f"engine.address={cluster.address}",
        folder=folder / "cluster",
    )
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
