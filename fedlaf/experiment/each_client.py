"""A run in which each client leaves once, from one training: so that a result hangs on no single client."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fedlaf.core.request_record import RequestRecord
from fedlaf.experiment.pipeline import Pipeline
from fedlaf.method.contract import ClientRegistry
from fedlaf.report import Report, RequestResult

FIRST = "request-1"


@dataclass
class EachClientRun(Pipeline):
    """One such run in progress: the requests of its schedule are alternatives, not a sequence.

    Each is served from the same weights with the random streams of a run that has no other request, so it
    gives the bits of that run. Nobody has left for the next one, and the ledger, which says who
    has, notes none of them.
    """

    def run(self) -> Report:
        """Enrol, train, serve each client's request. Raises RoundFailed."""
        plan, registry = self.plan, self.enter()
        arrives = plan.schedule[0][0]
        trained = self.train(plan.initial_weights(), registry, 0, arrives)
        original, results = self.current, list[RequestResult]()
        for number, (_, request) in enumerate(plan.schedule, 1):
            asking = replace(registry, request=request, trained=arrives)
            self.current = original
            result, _ = self.serve(f"request-{number}", trained.weights, asking, last=True)
            results.append(result)
        return replace(self._report(results, trained.cost), alternatives=True)

    def _curve_splits(self, registry: ClientRegistry, until: int) -> None:
        """Training is not followed: it would have to be on the rows of each client in turn."""

    def seeded_as(self, name: str) -> str:
        """Each is the first request of a run of its own."""
        return FIRST

    def let_go(self, name: str, registry: ClientRegistry) -> None:
        """Nobody has left: the next client's request is served with all the others there."""

    def note(self, record: RequestRecord) -> None:
        """Nothing has happened that the ledger is for."""
