"""Inline and Ray: the same bits whatever the number of workers, also when one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import pytest
import ray
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from support.federations import initial_weights, same_bits, small_spec

from fedlaf.client import make_client_app
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.method.contract import Stage
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.objectives.laf_targets import TargetRule
from fedlaf.protocol.enrolment import enrol
from fedlaf.protocol.messages import (
    PARTITION,
    Action,
    Instruction,
    Reply,
    encode_instruction,
    encode_reply,
)
from fedlaf.simulation import Inline, Ray
from fedlaf.simulation.grid import LocalGrid
from fedlaf.simulation.ray.engine import dismiss
from fedlaf.simulation.ray.grid import ATTEMPTS, RayGrid
from fedlaf.simulation.ray.pool import Pool
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.laf_adam import LafAdam
from fedlaf.strategies.laf_published import PublishedLaf

CLIENTS = 4
SPEC = small_spec(CLIENTS, rows=400)
METHOD = PublishedLaf(represent=Represent(latent=4, most_rows=50), represent_rounds=2,
             forget=Forget(weighting="oddness", lr_alignment=1e-3), forget_steps=3)  # fmt: skip

ASSIGNED = LafAdam(represent=METHOD.represent, represent_rounds=1, target_rule=TargetRule(strength=0.5, negative_weight=0.2),
                 warmup_steps=2, align_rounds=1)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def started_ray() -> Iterator[None]:
    """One Ray for all tests here: starting it takes seconds."""
    Ray(workers=2).connect(2)
    yield
    ray.shutdown()


def grid_of(app: ClientApp, clients: int, workers: int = 2, kind: type[RayGrid] = RayGrid) -> RayGrid:
    return kind(app, clients, Pool({"num_cpus": 1, "max_restarts": 0}, [None] * workers))


def story(grid: Grid) -> dict[str, Weights]:
    """Train, forget a client one way and the other, retrain."""
    registry = enrol(grid, expected=CLIENTS, timeout=120)
    start = initial_weights(SPEC)
    trained = FedAvg(rounds=2).run(grid, start, Stage("train", 0, registry)).weights
    request = ForgetRequest.of_clients([0], registry.sizes)
    left = METHOD.run(grid, trained, Stage("request-1", 0, replace(registry, request=request))).weights
    aimed = ASSIGNED.run(grid, trained, Stage("request-1", 0, replace(registry, request=request))).weights
    again = FedAvg(rounds=2).run(grid, start, Stage("train", 0, replace(registry, removed=request))).weights
    return {"trained": trained, "left": left, "aimed": aimed, "again": again}


def told_by(engine: Inline | Ray, tell: Callable[[Grid], dict[str, Weights]] = story) -> dict[str, Weights]:
    found: list[dict[str, Weights]] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        found.append(tell(grid))

    engine.run(server, make_client_app(SPEC), CLIENTS)
    dismiss()  # other tests want its CPUs
    return found[0]


@pytest.fixture(scope="module")
def inline() -> dict[str, Weights]:
    return told_by(Inline())


@pytest.mark.parametrize(("workers", "sums"), [(1, True), (2, True), (2, False), (4, True)])
def test_ray_gives_the_bits_of_inline(inline: dict[str, Weights], workers: int, sums: bool) -> None:
    found = told_by(Ray(workers=workers, cpus_per_worker=min(1.0, 2 / workers), sums=sums))
    assert found.keys() == inline.keys()
    assert all(same_bits(found[name], inline[name]) for name in inline)


@pytest.mark.parametrize("action", ["train.fit", "train.forget"])
def test_a_worker_killed_in_the_middle_changes_nothing(inline: dict[str, Weights], action: Action) -> None:
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

    grid = grid_of(make_client_app(SPEC), CLIENTS, kind=Killing)
    found = story(grid)
    grid.pool.close()
    assert killed
    assert all(same_bits(found[name], inline[name]) for name in inline)


def plain_app(handle: Callable[[int], dict[str, float]]) -> ClientApp:
    app = ClientApp()

    @app.query("enrol")
    def enrolled(message: Message, context: Context) -> Message:
        client = int(context.node_config[PARTITION])
        return encode_reply(Reply(numbers=handle(client)), message)

    return app


def asking(grid: LocalGrid) -> list[Message]:
    told = encode_instruction(Instruction({}, {}, 0, "s", 0))
    return [Message(told, node, "query.enrol") for node in grid.get_node_ids()]


def test_a_client_that_raises_is_answered_for_with_its_reason() -> None:
    def handle(client: int) -> dict[str, float]:
        if client == 1:
            raise ValueError("no such row")
        return {"client": client}

    grid = grid_of(plain_app(handle), 3)
    replies = {m.metadata.src_node_id - 1001: m for m in grid.send_and_receive(asking(grid))}
    grid.pool.close()
    assert sorted(replies) == [0, 1, 2]
    assert [replies[k].has_error() for k in range(3)] == [False, True, False]
    assert replies[1].error.reason.startswith("ValueError: no such row (at test_engines.py:")


def test_a_client_that_always_kills_its_worker_is_given_up_on() -> None:
    def handle(client: int) -> dict[str, float]:
        if client == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"client": client}

    grid = grid_of(plain_app(handle), 3)
    replies = {m.metadata.src_node_id - 1001: m for m in grid.send_and_receive(asking(grid))}
    grid.pool.close()
    assert [replies[k].has_error() for k in range(3)] == [False, True, False]
    assert f"its worker died {ATTEMPTS} times" in replies[1].error.reason


def test_what_takes_too_long_is_left_out_and_nobody_waits_for_it() -> None:
    def handle(client: int) -> dict[str, float]:
        if client == 1:
            sleep(60)
        return {"client": client}

    grid = grid_of(plain_app(handle), 3)
    list(grid.send_and_receive(asking(grid)[2:]))  # workers are up
    start = monotonic()
    replies = {m.metadata.src_node_id - 1001 for m in grid.send_and_receive(asking(grid), timeout=4)}
    assert replies == {0, 2}
    assert monotonic() - start < 30
    again = {m.metadata.src_node_id - 1001 for m in grid.send_and_receive(asking(grid)[2:], timeout=60)}
    grid.pool.close()
    assert again == {2}


def test_shared_arrays_are_put_into_the_store_once(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = grid_of(make_client_app(SPEC), CLIENTS)
    registry = enrol(grid, expected=CLIENTS, timeout=60)
    puts: list[object] = []
    real = ray.put
    monkeypatch.setattr(ray, "put", lambda value: puts.append(value) or real(value))
    FedAvg(rounds=3).run(grid, initial_weights(SPEC), Stage("train", 0, registry))
    grid.pool.close()
    assert len(puts) == 3  # one record of arrays a round, for four clients


PARITY = """
    import sys, warnings
    sys.path.insert(0, {tests!r})
    import numpy as np
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation
    from fedlaf.client import make_client_app
    from test_engines import CLIENTS, SPEC, story

    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        found = story(grid)
        np.savez({target!r}, **{{f"{{s}}/{{k}}": v for s, w in found.items() for k, v in w.items()}})

    run_simulation(server, make_client_app(SPEC), CLIENTS,
                   backend_config={{"client_resources": {{"num_cpus": 1.0}}, "init_args": {{"num_cpus": 2}}}})
"""


def test_parity_with_flowers_own_run_simulation(inline: dict[str, Weights], tmp_path: Path) -> None:
    """The same ServerApp, ClientApp and strategies under Flower's engine end with equal weights."""
    import numpy as np

    target = tmp_path / "found.npz"
    here = Path(__file__).parent
    script = textwrap.dedent(PARITY).format(tests=str(here), target=str(target))
    path = os.pathsep.join([str(here), str(here.parent)])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=240,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert target.is_file(), done.stderr[-3000:]
    with np.load(target) as held:
        for stage, weights in inline.items():
            assert same_bits({k: held[f"{stage}/{k}"] for k in weights}, weights), stage


def test_more_gpus_than_there_are_end_in_one_line() -> None:
    from fedlaf.core.errors import InvalidValue

    ray.shutdown()
    try:
        with pytest.raises(InvalidValue, match=r"engine\.gpus_per_worker: expected a share .* GPUs, got 64"):
            Ray(workers=2, gpus_per_worker=64).connect(2)
        assert not ray.is_initialized()
    finally:
        Ray(workers=2).connect(2)
