"""Who is told how a run goes on, while it does."""

from __future__ import annotations

from collections.abc import Mapping

from fedlaf.core.types import ClientId
from fedlaf.method.contract import RoundRecord
from fedlaf.report.results import Point


class Watch:
    """Told of stages and rounds as they come; this one does nothing with it."""

    def stage(self, name: str, rounds: int, clients: int) -> None:
        """A stage of `rounds` rounds begins; so many clients are there."""

    def advance(self, name: str, record: RoundRecord, point: Point | None = None) -> None:
        """A round of the stage has ended; `point` has its measures, where it has any."""

    def measuring(self, name: str) -> None:
        """All models of a request are there, and are measured now."""

    def note(self, line: str) -> None:
        """A line of news."""

    def withdrawn(self, nodes: Mapping[ClientId, int]) -> None:
        """The request of these clients is served, and their nodes are asked nothing more."""
