"""One small federation trained, unlearned and retrained on any engine, and client apps that misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import ray
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedlaf.client import make_client_app
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.method.contract import Stage
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.objectives.laf_targets import TargetRule
from fedlaf.protocol.enrolment import enrol
from fedlaf.protocol.messages import PARTITION, Instruction, Reply, encode_instruction, encode_reply
from fedlaf.simulation import Inline, Ray, RayCluster, RayGrid
from fedlaf.simulation.grid import LocalGrid
from fedlaf.simulation.ray.engine import dismiss, end
from fedlaf.simulation.ray.pool import Pool
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.laf_adam import LafAdam
from fedlaf.strategies.laf_published import PublishedLaf
from support.federations import initial_weights, small_spec

CLIENTS = 4
SPEC = small_spec(CLIENTS, rows=400)
PUBLISHED = PublishedLaf(
    represent=Represent(latent=4, most_rows=50),
    represent_rounds=2,
    forget=Forget(weighting="oddness", lr_alignment=1e-3),
    forget_steps=3,
)
WITH_TARGETS = LafAdam(
    represent=PUBLISHED.represent,
    represent_rounds=1,
    target_rule=TargetRule(strength=0.5, negative_weight=0.2),
    warmup_steps=2,
    align_rounds=1,
)


def two_ray_workers() -> Iterator[None]:
    """One Ray for all tests of a module, since starting it takes seconds: body of a fixture."""
    end()
    Ray(workers=2).connect(2)
    yield
    _kept.clear()
    end()


class Kept(Pool):
    """A pool whose workers stay for the next test, since starting them takes seconds. They take none of the
    CPUs that engines ask for.
    """

    def __init__(self) -> None:
        super().__init__({"num_cpus": 0, "max_restarts": 0}, [None] * 2)

    def close(self) -> None:
        """They stay."""


_kept: dict[str, Kept] = {}
"""By the node of the Ray that it is on."""


def ray_grid(app: ClientApp, clients: int, *, kind: type[RayGrid] = RayGrid, sums: bool = True) -> RayGrid:
    """A grid with two workers on the Ray that is there; those of an earlier test play its clients."""
    node = ray.get_runtime_context().get_node_id()
    if node not in _kept:
        _kept[node] = Kept()
    return kind(app, clients, _kept[node], sums=sums)


def train_unlearn_retrain(grid: Grid) -> dict[str, Weights]:
    """Weights by stage: trained, a client forgotten in two ways, retrained without it."""
    registry = enrol(grid, expected=CLIENTS, timeout=120)
    start = initial_weights(SPEC)
    trained = FedAvg(rounds=2).run(grid, start, Stage("train", 0, registry)).weights
    request = ForgetRequest.of_clients([0], registry.sizes)
    asked, left = replace(registry, request=request), replace(registry, removed=request)
    return {
        "trained": trained,
        "published": PUBLISHED.run(grid, trained, Stage("request-1", 0, asked)).weights,
        "with targets": WITH_TARGETS.run(grid, trained, Stage("request-1", 0, asked)).weights,
        "retrained": FedAvg(rounds=2).run(grid, start, Stage("train", 0, left)).weights,
    }


def weights_on(engine: Inline | Ray | RayCluster) -> dict[str, Weights]:
    """`train_unlearn_retrain` on an engine; its warm workers are ended, for other tests want its CPUs."""
    found: list[dict[str, Weights]] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        found.append(train_unlearn_retrain(grid))

    engine.run(server, make_client_app(SPEC), CLIENTS)
    dismiss()
    return found[0]


def plain_app(handle: Callable[[int], dict[str, float]]) -> ClientApp:
    """A client app that answers its enrolment with the numbers that `handle` has for its client."""
    app = ClientApp()

    @app.query("enrol")
    def enrolled(message: Message, context: Context) -> Message:
        client = int(context.node_config[PARTITION])
        return encode_reply(Reply(numbers=handle(client)), message)

    return app


def enrolment_messages(grid: LocalGrid) -> list[Message]:
    """One message without arrays to each node, in partition order."""
    content = encode_instruction(Instruction({}, {}, 0, "s", 0))
    return [Message(content, node, "query.enrol") for node in grid.get_node_ids()]


def by_name(found: dict[str, Weights]) -> dict[str, Any]:
    """Weights by stage as one flat dict, for a file."""
    return {f"{stage}/{name}": array for stage, weights in found.items() for name, array in weights.items()}
