"""Inline and Ray: the same bits whatever the number of workers, also when one of them dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
import ray
from support import processes
from support.engines import (
    CLIENTS,
    SPEC,
    enrolment_messages,
    plain_app,
    ray_grid,
    train_unlearn_retrain,
    two_ray_workers,
    weights_on,
)
from support.federations import initial_weights, same_bits

from fedlaf.client import make_client_app
from fedlaf.core.errors import InvalidValue
from fedlaf.core.types import Weights
from fedlaf.method.contract import Stage
from fedlaf.protocol.enrolment import enrol
from fedlaf.simulation import Inline, Ray, RayGrid
from fedlaf.simulation.ray.engine import end
from fedlaf.simulation.ray.grid import ATTEMPTS
from fedlaf.strategies.fedavg import FedAvg

pytestmark = pytest.mark.xdist_group("ray")
started_ray = pytest.fixture(scope="module", autouse=True)(two_ray_workers)


@pytest.fixture(scope="module")
def inline() -> dict[str, Weights]:
    return weights_on(Inline())


@pytest.mark.parametrize(("workers", "sums"), [(1, True), (2, True), (2, False), (4, True)])
def test_ray_gives_the_bits_of_inline(inline: dict[str, Weights], workers: int, sums: bool) -> None:
    found = weights_on(Ray(workers=workers, cpus_per_worker=min(1.0, 2 / workers), sums=sums))
    assert found.keys() == inline.keys()
    assert all(same_bits(found[name], inline[name]) for name in inline)


@pytest.mark.parametrize("action", ["train.fit", "train.forget"])
def test_a_worker_killed_in_the_middle_changes_nothing(inline: dict[str, Weights], action: str) -> None:
    killed: list[int] = []

    class Killing(RayGrid):
        """Kills a worker process while it works on the first such round."""

        def send_and_receive(self, messages, *, timeout=None):  # type: ignore[no-untyped-def]
            messages = list(messages)
            kinds = {message.metadata.message_type for message in messages}
            if action in kinds and not killed:
                process = ray.get(self.pool.actors[0].process.remote())
                os.kill(process, signal.SIGKILL)
                killed.append(process)
            return super().send_and_receive(messages, timeout=timeout)

    grid = ray_grid(make_client_app(SPEC), CLIENTS, kind=Killing)
    found = train_unlearn_retrain(grid)
    grid.pool.close()
    assert killed
    assert all(same_bits(found[name], inline[name]) for name in inline)


def test_a_client_that_raises_is_answered_for_with_its_reason() -> None:
    def handle(client: int) -> dict[str, float]:
        if client == 1:
            raise ValueError("no such row")
        return {"client": client}

    grid = ray_grid(plain_app(handle), 3)
    replies = {m.metadata.src_node_id - 1001: m for m in grid.send_and_receive(enrolment_messages(grid))}
    grid.pool.close()
    assert sorted(replies) == [0, 1, 2]
    assert [replies[k].has_error() for k in range(3)] == [False, True, False]
    assert replies[1].error.reason.startswith("ValueError: no such row (at test_engines.py:")


def test_a_client_that_always_kills_its_worker_is_given_up_on() -> None:
    def handle(client: int) -> dict[str, float]:
        if client == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"client": client}

    grid = ray_grid(plain_app(handle), 3)
    replies = {m.metadata.src_node_id - 1001: m for m in grid.send_and_receive(enrolment_messages(grid))}
    grid.pool.close()
    assert [replies[k].has_error() for k in range(3)] == [False, True, False]
    assert f"its worker died {ATTEMPTS} times" in replies[1].error.reason


def test_what_takes_too_long_is_left_out_and_nobody_waits_for_it() -> None:
    def handle(client: int) -> dict[str, float]:
        if client == 1:
            sleep(60)
        return {"client": client}

    grid = ray_grid(plain_app(handle), 3)
    list(grid.send_and_receive(enrolment_messages(grid)[2:]))  # workers are up
    start = monotonic()
    replies = {
        m.metadata.src_node_id - 1001 for m in grid.send_and_receive(enrolment_messages(grid), timeout=4)
    }
    assert replies == {0, 2}
    assert monotonic() - start < 30
    again = {
        m.metadata.src_node_id - 1001 for m in grid.send_and_receive(enrolment_messages(grid)[2:], timeout=60)
    }
    grid.pool.close()
    assert again == {2}


def test_shared_arrays_are_put_into_the_store_once(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = ray_grid(make_client_app(SPEC), CLIENTS)
    registry = enrol(grid, expected=CLIENTS, timeout=60)
    puts: list[object] = []
    real = ray.put
    monkeypatch.setattr(ray, "put", lambda value: puts.append(value) or real(value))
    FedAvg(rounds=3).run(grid, initial_weights(SPEC), Stage("train", 0, registry))
    grid.pool.close()
    assert len(puts) == 3  # one record of arrays a round, for four clients


def test_parity_with_flowers_own_run_simulation(inline: dict[str, Weights], tmp_path: Path) -> None:
    """The same ServerApp, ClientApp and strategies under Flower's engine end with equal weights."""
    target = tmp_path / "found.npz"
    done = processes.python("-m", "support.flower_simulation", str(target), cwd=tmp_path)
    assert target.is_file(), done.stderr[-3000:]
    with np.load(target) as held:
        for stage, weights in inline.items():
            assert same_bits({k: held[f"{stage}/{k}"] for k in weights}, weights), stage


def test_more_gpus_than_there_are_end_in_one_line() -> None:
    end()
    try:
        with pytest.raises(InvalidValue, match=r"engine\.gpus_per_worker: expected a share .* GPUs, got 64"):
            Ray(workers=2, gpus_per_worker=64).connect(2)
        assert not ray.is_initialized()
    finally:
        Ray(workers=2).connect(2)
