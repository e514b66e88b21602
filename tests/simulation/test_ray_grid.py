"""How the Ray grid deals out its clients, and what it does while they work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import ray
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from ray.exceptions import ActorUnschedulableError, OutOfMemoryError
from support.federations import RecordingGrid, initial_weights
from test_engines import CLIENTS, SPEC, asking, grid_of, plain_app

from fedlaf.client import make_client_app
from fedlaf.method.contract import Stage
from fedlaf.protocol.enrolment import enrol
from fedlaf.protocol.messages import SUMMED, Part
from fedlaf.simulation import Ray, RayGrid
from fedlaf.simulation.ray.engine import dismiss, end
from fedlaf.strategies.fedavg import FedAvg


@pytest.fixture(scope="module", autouse=True)
def started_ray() -> Iterator[None]:
    Ray(workers=2).connect(2)
    yield
    end()


class NoPool:
    """Two places without workers: enough to deal out."""

    actors = ("first", "second")

    def play(self, app: Any, clients: int) -> None:
        """Nobody plays."""


def dealing(clients: int) -> RayGrid:
    return RayGrid(plain_app(lambda client: {}), clients, NoPool())  # type: ignore[arg-type]


def test_partitions_stick_to_a_worker_and_keep_their_order() -> None:
    """The order is the server's: the longest first."""
    grid = dealing(7)
    for messages in (asking(grid), asking(grid)[::-1]):
        queues = grid._queues(messages)
        asked = [m.metadata.dst_node_id - 1001 for m in messages]
        assert [[item.client for item in queue] for queue in queues] == [
            [k for k in asked if k % 2 == worker] for worker in (0, 1)
        ]


def test_an_idle_worker_takes_over_from_the_tail_of_the_longest_queue() -> None:
    grid = dealing(8)
    queues = grid._queues(asking(grid)[1::2])  # all of the second worker
    taken = [item.client for item in grid._taken(0, queues, alone=True)]
    assert taken == [7]
    assert [item.client for item in grid._taken(1, queues, alone=True)] == [1]
    assert [item.client for item in queues[1]] == [3, 5]


def test_clients_go_to_a_worker_in_lists_that_shrink_towards_the_end() -> None:
    grid = dealing(400)
    queues = grid._queues(asking(grid)[::2])
    sizes = []
    while queues[0]:
        sizes.append(len(grid._taken(0, queues, alone=True)))
    assert sum(sizes) == 200
    assert sizes[0] == 32
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)


def test_replies_come_as_they_end() -> None:
    def handle(client: int) -> dict[str, float]:
        sleep(3.0 if client == 1 else 0.0)
        return {"client": client}

    grid = grid_of(plain_app(handle), 2)
    list(grid.send_and_receive(asking(grid)[:1]))  # workers are up
    replies = iter(grid.send_and_receive(asking(grid)))
    first = next(replies)
    assert first.metadata.src_node_id == 1001
    start = monotonic()
    assert next(replies).metadata.src_node_id == 1002
    assert monotonic() - start > 1.0
    grid.pool.close()


@pytest.mark.parametrize(
    "death", [OutOfMemoryError("ended for its memory"), ActorUnschedulableError("removed")]
)
def test_a_worker_that_is_ended_for_its_memory_or_has_no_place_is_replaced(
    death: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = grid_of(plain_app(lambda client: {"client": client}), 3)
    list(grid.send_and_receive(asking(grid)))
    real, deaths, before = ray.get, [death], list(grid.pool.actors)

    def get(reference: Any, **more: Any) -> Any:
        if deaths:
            raise deaths.pop()
        return real(reference, **more)

    monkeypatch.setattr(ray, "get", get)
    replies = {m.metadata.src_node_id - 1001: m for m in grid.send_and_receive(asking(grid))}
    assert not deaths
    assert sorted(replies) == [0, 1, 2]
    assert not any(reply.has_error() for reply in replies.values())
    assert sum(a is not b for a, b in zip(before, grid.pool.actors, strict=True)) == 1
    grid.pool.close()


@pytest.mark.parametrize("sums", [True, False])
def test_with_sums_no_reply_holds_a_model(sums: bool) -> None:
    """So what the driver holds does not grow with the number of clients."""
    grid = grid_of(make_client_app(SPEC), CLIENTS)
    grid._sums = sums
    watched = RecordingGrid(grid)
    registry = enrol(watched, expected=CLIENTS, timeout=60)
    watched.replies.clear()
    FedAvg(rounds=1).run(watched, initial_weights(SPEC), Stage("train", 0, registry))
    grid.pool.close()
    parts = [list(reply.content.array_records) for reply in watched.replies]
    assert len(parts) == CLIENTS
    assert sum(Part.MODEL in names for names in parts) == (0 if sums else CLIENTS)
    brought = [r.content.metric_records["numbers"].get(SUMMED, 0) for r in watched.replies]
    assert sum(brought) == (400 if sums else 0)


def test_workers_stay_warm_for_the_next_job_of_a_multirun() -> None:
    seen: list[list[int]] = []

    def job(engine: Ray) -> None:
        server = ServerApp()

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            assert isinstance(grid, RayGrid)
            seen.append(ray.get([actor.process.remote() for actor in grid.pool.actors]))

        engine.run(server, plain_app(lambda client: {}), 2)

    job(Ray(workers=2))
    job(Ray(workers=2, sums=False))
    assert seen[0] == seen[1]
    job(Ray(workers=1))  # another pool: the old one leaves
    until = monotonic() + 30
    while any(Path(f"/proc/{process}").exists() for process in seen[0]) and monotonic() < until:
        sleep(0.1)
    assert not any(Path(f"/proc/{process}").exists() for process in seen[0])
    dismiss()
