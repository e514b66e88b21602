"""A Ray cluster of two nodes on loopback, started and stopped here: joined, used, left as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import processes
from support.engines import weights_on
from support.federations import same_bits

from fedlaf.core.types import Weights
from fedlaf.simulation import Inline

pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture(scope="module")
def inline() -> dict[str, Weights]:
    return weights_on(Inline())


@pytest.mark.parametrize(
    ("lose", "left"),
    [("", 2), ("train.fit", 1), ("train.align", 1)],
    ids=["both stay", "lost in training", "lost in forgetting"],
)
def test_two_nodes_give_the_bits_of_inline_also_when_one_is_lost(
    lose: str, left: int, tmp_path: Path, inline: dict[str, Weights]
) -> None:
    target = tmp_path / "found.npz"
    done = processes.python("-m", "support.ray_nodes", str(target), lose, cwd=tmp_path, **processes.QUIET_RAY)
    assert target.is_file(), done.stderr[-3000:]
    with np.load(target) as held:
        assert list(held["nodes"]) == [left, left]
        for stage, weights in inline.items():
            assert same_bits({k: held[f"{stage}/{k}"] for k in weights}, weights), stage
