"""How the Ray grid deals out its clients, and what it does while they work."""

from __future__ import annotations

from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import ray
from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from ray.exceptions import ActorUnschedulableError, GetTimeoutError, OutOfMemoryError
from support.engines import CLIENTS, SPEC, enrolment_messages, plain_app, ray_grid, two_ray_workers
from support.federations import RecordingGrid, initial_weights

from fedlaf.client import make_client_app
from fedlaf.method.contract import Stage
from fedlaf.protocol.enrolment import enrol
from fedlaf.protocol.messages import SUMMED, Part
from fedlaf.simulation import Ray, RayGrid
from fedlaf.simulation.flower_compat import FIRST_NODE
from fedlaf.simulation.ray.engine import dismiss
from fedlaf.strategies.fedavg import FedAvg

pytestmark = pytest.mark.xdist_group("ray")
started_ray = pytest.fixture(scope="module", autouse=True)(two_ray_workers)


class PromptWorkers:
    """A pool of two workers that answer in the order in which they were called; `calls` has, for each call,
    the worker and its clients.
    """

    spread = False

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.actors = [PromptWorker(self, number) for number in (0, 1)]
        self.calls: list[tuple[int, list[int]]] = []
        self.answers: list[list[Message]] = []
        monkeypatch.setattr(ray, "wait", lambda references, **_: (references[:1], references[1:]))
        monkeypatch.setattr(ray, "get", lambda found, **_: {} if found is None else self.answers[found])

    def play(self, app: Any, clients: int) -> None:
        """Nobody plays."""

    def clients_of(self, worker: int) -> list[int]:
        return [client for number, clients in self.calls if number == worker for client in clients]


class PromptWorker:
    """One of them, as RayGrid calls it: `actor.share.options(...).remote(...)`."""

    def __init__(self, pool: PromptWorkers, number: int) -> None:
        self.pool, self.number, self.share = pool, number, self

    def options(self, **_: int) -> PromptWorker:
        return self

    def remote(self, messages: list[Message], *_: Any) -> tuple[int, None]:
        self.pool.calls.append((self.number, [m.metadata.dst_node_id - FIRST_NODE for m in messages]))
        self.pool.answers.append([Message(RecordDict(), reply_to=message) for message in messages])
        return len(self.pool.answers) - 1, None


def dealt(monkeypatch: pytest.MonkeyPatch, clients: int, chosen: slice) -> PromptWorkers:
    """Two prompt workers after a round of the chosen clients; all have answered."""
    with monkeypatch.context() as patch:
        pool = PromptWorkers(patch)
        grid = RayGrid(plain_app(lambda client: {}), clients, pool)  # type: ignore[arg-type]
        asked = enrolment_messages(grid)[chosen]
        replies = list(grid.send_and_receive(asked))
    assert sorted(m.metadata.src_node_id for m in replies) == sorted(m.metadata.dst_node_id for m in asked)
    return pool


@pytest.mark.parametrize("step", [1, -1])
def test_partitions_stick_to_a_worker_and_keep_their_order(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is the server's: the longest first."""
    pool = dealt(monkeypatch, 7, slice(None, None, step))
    for worker in (0, 1):
        assert pool.clients_of(worker) == [k for k in range(7)[::step] if k % 2 == worker]


def test_an_idle_worker_takes_over_from_the_tail_of_the_longest_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = dealt(monkeypatch, 8, slice(1, None, 2))  # all of the second worker
    assert pool.calls == [(0, [7]), (1, [1]), (0, [5]), (1, [3])]


def test_clients_go_to_a_worker_in_lists_that_shrink_towards_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = dealt(monkeypatch, 400, slice(None, None, 2))
    sizes = [len(clients) for _, clients in pool.calls]
    assert sum(sizes) == 200
    assert sizes[0] == 32
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)


def test_replies_come_as_they_end() -> None:
    def handle(client: int) -> dict[str, float]:
        sleep(3.0 if client == 1 else 0.0)
        return {"client": client}

    grid = ray_grid(plain_app(handle), 2)
    list(grid.send_and_receive(enrolment_messages(grid)[:1]))  # workers are up
    replies = iter(grid.send_and_receive(enrolment_messages(grid)))
    first = next(replies)
    assert first.metadata.src_node_id == 1001
    start = monotonic()
    assert next(replies).metadata.src_node_id == 1002
    assert monotonic() - start > 1.0
    grid.pool.close()


@pytest.mark.parametrize(
    "death",
    [
        OutOfMemoryError("ended for its memory"),
        ActorUnschedulableError("removed"),
        GetTimeoutError("its answer does not arrive"),
    ],
)
def test_a_worker_that_is_ended_or_whose_answer_does_not_arrive_is_replaced(
    death: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = ray_grid(plain_app(lambda client: {"client": client}), 3)
    list(grid.send_and_receive(enrolment_messages(grid)))
    real, deaths, before = ray.get, [death], list(grid.pool.actors)

    def get(reference: Any, **more: Any) -> Any:
        assert 0 < more["timeout"] < 600
        if deaths:
            raise deaths.pop()
        return real(reference, **more)

    monkeypatch.setattr(ray, "get", get)
    replies = {m.metadata.src_node_id - 1001: m for m in grid.send_and_receive(enrolment_messages(grid))}
    assert not deaths
    assert sorted(replies) == [0, 1, 2]
    assert not any(reply.has_error() for reply in replies.values())
    assert sum(a is not b for a, b in zip(before, grid.pool.actors, strict=True)) == 1
    grid.pool.close()


@pytest.mark.parametrize("sums", [True, False])
def test_with_sums_no_reply_holds_a_model(sums: bool) -> None:
    """So what the driver holds does not grow with the number of clients."""
    grid = ray_grid(make_client_app(SPEC), CLIENTS, sums=sums)
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
