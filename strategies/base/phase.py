"""Phases and the server's state: the data that a method is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fedlaf.core.cost import Cost
from fedlaf.core.seeding import numpy_stream
from fedlaf.core.types import ClientId, Weights
from fedlaf.method.contract import Given, Roster
from fedlaf.protocol.messages import Action, Part


class Who(StrEnum):
    """Which clients a phase asks."""

    REMAINING = "clients with rows that remain"
    FORGETTING = "clients with rows to forget"
    BOTH = "clients with either"


@dataclass(frozen=True)
class Phase:
    """`rounds` rounds in which the clients `who` run the handler `action` with `settings`.

    `cohort` limits how many clients are asked per round, beside those that forget (None: all);
    with `panel` they are the same in all rounds of the stage. In a `strict` phase every answer
    counts: a client that fails is asked once more, then the run stops. Where all that the method
    needs of the replies is the `mean` of one part, weighted by rows, `aggregate` is given one reply,
    which holds it.
    """

    name: str
    action: Action
    rounds: int
    who: Who
    settings: object
    cohort: int | None = None
    strict: bool = True
    panel: bool = False
    mean: Part | None = None


@dataclass(frozen=True)
class ServerState:
    """The global weights, the round within the phase, what a method carries along and what it was
    given, and what the server's own work has cost.
    """

    weights: Weights
    round: int = 0
    aux: Mapping[str, Any] = field(default_factory=dict)
    given: Given = field(default_factory=Given)
    cost: Cost = field(default_factory=Cost)


def sampled(phase: Phase, roster: Roster, seed: int, stage: str, round_: int) -> list[ClientId]:
    """The clients that a round asks, in partition order: all that must, a cohort of the others."""
    forgetting = roster.forgetting
    asked_anyway = set(forgetting)
    others = [k for k in roster.remaining if k not in asked_anyway]
    if phase.who is Who.REMAINING:
        forgetting = [k for k in forgetting if roster.remaining_rows(k) > 0]
    elif phase.who is Who.FORGETTING:
        others = []
    if phase.cohort is not None and phase.cohort < len(others):
        draw = ("panel",) if phase.panel else (phase.name, "cohort", round_)
        stream = numpy_stream(seed, stage, *draw)
        others = [int(k) for k in stream.choice(others, phase.cohort, replace=False)]
    absent = set(roster.request.clients) if roster.request.offline else set()
    return sorted({*forgetting, *others} - absent)
