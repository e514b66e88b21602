"""Shares of GPUs: what fits, and that a worker sees only its own. Ray is told of GPUs that are not there."""

from __future__ import annotations

import os
from collections import Counter

import pytest
import ray

from fedlaf.core.errors import InvalidValue
from fedlaf.simulation import Ray, RayCluster
from fedlaf.simulation.ray import engine as ray_engine
from fedlaf.simulation.ray.engine import end
from fedlaf.simulation.ray.pool import on_gpus


@pytest.mark.parametrize(
    ("share", "free", "workers"),
    [(0.25, 1, 4), (0.25, 2, 8), (0.6, 2, 2), (0.1, 1, 10), (1, 3, 3), (2, 5, 2), (0.5, 0.5, 1),
     (0.5, 1.7, 3), (0.3, 0, 0)],
)  # fmt: skip
def test_a_worker_takes_its_share_of_one_gpu(share: float, free: float, workers: int) -> None:
    assert on_gpus(share, free) == workers


@pytest.mark.parametrize("engine", [Ray, lambda **more: RayCluster("auto", **more)])
def test_more_than_one_gpu_is_whole(engine: type[Ray]) -> None:
    engine(gpus_per_worker=2)
    with pytest.raises(InvalidValue, match=r"gpus_per_worker: expected at most 1, or a whole number .* 1\.5"):
        engine(gpus_per_worker=1.5)


@pytest.mark.xdist_group("ray")
def test_a_worker_sees_only_the_gpu_of_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    end()
    ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False,
             configure_logging=False, object_store_memory=100 * 2**20)  # fmt: skip
    # As if the engine had started it: the machine of the test has no two GPUs of its own.
    monkeypatch.setattr(ray_engine, "_started", [ray.get_runtime_context().get_node_id()])
    try:
        pool = Ray(workers=4, gpus_per_worker=0.5).pool(4)
        see = "CUDA_VISIBLE_DEVICES"
        seen = ray.get([a.__ray_call__.remote(lambda _: os.environ.get(see)) for a in pool.actors])
        assert Counter(seen) == {"0": 2, "1": 2}
        with pytest.raises(InvalidValue, match=r"a share that 3 workers can have of 2 GPUs, got 0\.6"):
            Ray(workers=3, gpus_per_worker=0.6).pool(3)  # 1.8 of 2, but each GPU has room for one
        assert not ray.is_initialized()
    finally:
        end()
