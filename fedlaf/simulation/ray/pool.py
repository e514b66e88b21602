"""The workers of a Ray engine: started where there is room, replaced when they die, kept warm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from flwr.clientapp import ClientApp
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedlaf.simulation.ray.worker import Worker

Place = str | None
"""Id of the node that a worker belongs to; None where there is only one."""


class Pool:
    """Actors, one a place; None stands where a worker is gone for good, because its node is."""

    def __init__(self, options: Mapping[str, Any], places: Sequence[Place]) -> None:
        self.options, self.places = dict(options), list(places)
        self._played: tuple[Any, int] | None = None
        self.actors: list[Any] = [self._started(place) for place in self.places]

    def __len__(self) -> int:
        return len(self.actors)

    @property
    def spread(self) -> bool:
        """Whether it has more than one node: what lies on one may be lost with it."""
        return any(place is not None for place in self.places)

    def play(self, app: ClientApp, clients: int) -> None:
        """Let all workers play the clients of `app` from now on."""
        self._played = ray.put(app), clients
        for actor in self.actors:
            if actor is not None:
                actor.play.remote(*self._played)

    def replace(self, number: int) -> None:
        """Put a fresh worker where another has died or takes too long; nothing where the node is lost too."""
        if self.actors[number] is not None:
            ray.kill(self.actors[number])  # one that is only out of reach would come back, and keep its CPU
        place = self.places[number]
        self.actors[number] = self._started(place) if place is None or place in alive() else None

    def close(self) -> None:
        """End all workers."""
        for actor in self.actors:
            if actor is not None:
                ray.kill(actor)
        self.actors = [None] * len(self.actors)

    def _started(self, place: Place) -> Any:
        options = dict(self.options)
        if place is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(place, soft=False)
        actor: Any = ray.remote(Worker).options(**options).remote()
        if self._played is not None:
            actor.play.remote(*self._played)
        return actor


def alive() -> set[str]:
    """Ids of the cluster's nodes that are up."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def on_gpus(share: float, free: float) -> int:
    """How many workers with a `share` fit on `free` GPUs: each sees one GPU, or as many as it takes whole.

    A part of a GPU that is left over counts as one piece.
    """
    if share >= 1:
        return _times(share, free)
    whole = int(free + 1e-6)
    return whole * _times(share, 1.0) + _times(share, free - whole)


def _times(share: float, free: float) -> int:
    # Resources are counted in ten-thousandths: a hair more room than there is harms nobody.
    return max(0, int(free / share + 1e-6))


def room(cpus: float, gpus: float, memory: float) -> list[str]:
    """A place for each worker that fits into what is free now, node by node in turn."""
    from ray._private.state import available_resources_per_node  # Ray has no public name for it

    free = available_resources_per_node()
    counts: dict[str, int] = {}
    for node in sorted(alive() & set(free)):
        has = free[node]
        wanted = (("CPU", cpus), ("memory", memory))
        counts[node] = min(_times(share, has.get(what, 0.0)) for what, share in wanted if share > 0)
        if gpus > 0:
            counts[node] = min(counts[node], on_gpus(gpus, has.get("GPU", 0.0)))
    turns = range(max(counts.values(), default=0))
    return [node for turn in turns for node, count in counts.items() if turn < count]
