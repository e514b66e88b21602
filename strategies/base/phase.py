"""Phases and the server's state: the data that a method is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fedlaf.core.cost import Cost
from fedlaf.core.seeding import numpy_stream
from fedlaf.core.types import ClientId, Weights
from fedlaf.method.contract import ClientRegistry, MethodInputs


class Who(StrEnum):
    """Which clients a phase asks."""

    RETAIN = "clients with rows that remain"
    FORGET = "clients with rows to forget"
    BOTH = "clients with either"


@dataclass(frozen=True)
class Phase:
    """`rounds` rounds in which the clients `who` run the handler `step` with `settings`.

    `cohort` limits how many clients are asked per round, beside those that forget (None: all);
    with `fixed_cohort` they are the same in all rounds of the stage. In a `strict` phase every answer
    counts: a client that fails is asked once more, then the run stops. Where all that the method
    needs of the replies is the `mean` of one part, weighted by rows, `aggregate` is given one reply,
    which holds it.
    """

    name: str
    step: str
    rounds: int
    who: Who
    settings: object
    cohort: int | None = None
    strict: bool = True
    fixed_cohort: bool = False
    mean: str | None = None


@dataclass(frozen=True)
class ServerState:
    """The global weights, the round within the phase, what a method carries along and what it was
    given, and what the server's own work has cost.
    """

    weights: Weights
    round: int = 0
    aux: Mapping[str, Any] = field(default_factory=dict)
    inputs: MethodInputs = field(default_factory=MethodInputs)
    cost: Cost = field(default_factory=Cost)


def sampled(phase: Phase, registry: ClientRegistry, seed: int, stage: str, round_: int) -> list[ClientId]:
    """The clients that a round asks, in partition order: all that must, a cohort of the others."""
    forgetting = registry.forget_clients
    asked_anyway = set(forgetting)
    others = [k for k in registry.retain_clients if k not in asked_anyway]
    if phase.who is Who.RETAIN:
        forgetting = [k for k in forgetting if registry.retain_rows(k) > 0]
    elif phase.who is Who.FORGET:
        others = []
    if phase.cohort is not None and phase.cohort < len(others):
        draw = ("panel",) if phase.fixed_cohort else (phase.name, "cohort", round_)
        stream = numpy_stream(seed, stage, *draw)
        others = [int(k) for k in stream.choice(others, phase.cohort, replace=False)]
    absent = set(registry.request.clients) if registry.request.offline else set()
    return sorted({*forgetting, *others} - absent)
