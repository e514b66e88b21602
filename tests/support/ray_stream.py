"""A stream on a Ray cluster of two nodes on loopback: `python -m support.ray_stream FOLDER TRACE`."""

from __future__ import annotations

import sys
from pathlib import Path

import fedlaf
from support.ray_nodes import two_nodes
from support.streams import keys_of


def main(folder: Path, trace: Path) -> None:
    """Leave the run in FOLDER/cluster; its requests are those of the trace."""
    cluster, _ = two_nodes()
    keys = [key for key in keys_of(trace) if not key.startswith("engine")]
    engine = ("engine=ray_cluster", f"engine.address={cluster.address}")
    fedlaf.run(*keys, *engine, folder=folder / "cluster")
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
