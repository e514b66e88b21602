"""Who serves a request: the run's method, the fallback, or nobody."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fedlaf.core.errors import InvalidValue
from fedlaf.core.request import ForgetRequest
from fedlaf.core.stream import Arrival
from fedlaf.experiment.needs import check_needs
from fedlaf.method.contract import ClientRegistry, Method, Need


@dataclass(frozen=True)
class Choice:
    """The method that serves a request and its name, whether it is the fallback, whether its clients are
    reached; without a method, the `reason` why nobody serves it.
    """

    method: Method | None
    name: str = ""
    fallback: bool = False
    reached: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Servants:
    """The methods of a run: its own, and the fallback where there is one."""

    method: Method
    name: str
    fallback: Method | None
    server_rows: int = 0

    @property
    def fallback_name(self) -> str:
        """The fallback's name: that of its class."""
        return type(self.fallback).__name__ if self.fallback is not None else ""

    def chosen(self, request: Arrival, registry: ClientRegistry, round_: int) -> Choice:
        """Who serves the request, whose rows are those of the registry's, after a training round."""
        reached = request.reachable(round_)
        asked = replace(registry, request=replace(registry.request, offline=not reached))
        stays = set(asked.request.clients) - asked.request.withdrawn
        why = self._refuses(self.method, self.name, asked)
        if why is None:
            # Whoever leaves whole is asked by no method that does not need it: batches need not be split.
            counted = reached or (Need.ONLINE not in self.method.needs and not stays)
            return Choice(self.method, self.name, False, counted)
        return self.instead(request, registry, round_, why)

    def instead(self, request: Arrival, registry: ClientRegistry, round_: int, why: str) -> Choice:
        """The fallback, if there is one that can serve the request; `why` the run's own method does not."""
        if self.fallback is None:
            return Choice(None, reason=why)
        reached = request.reachable(round_)
        asked = replace(registry, request=replace(registry.request, offline=not reached))
        stays = set(asked.request.clients) - asked.request.withdrawn
        refused = self._refuses(self.fallback, self.fallback_name, asked)
        if refused is not None:
            return Choice(None, reason=f"{why}; {refused}")
        return Choice(self.fallback, self.fallback_name, True, reached or not stays, why)

    def waits(self, request: Arrival, round_: int, slack: float) -> bool:
        """Whether the request is better served later: the method needs its client, which is offline and will
        be back before the deadline, `slack` rounds from now.
        """
        if request.offline is None or Need.ONLINE not in self.method.needs or request.reachable(round_):
            return False
        back = max(request.offline[1], request.issued) - round_
        return round_ < request.offline[1] and back <= slack

    def _refuses(self, method: Method, name: str, registry: ClientRegistry) -> str | None:
        """Why a method cannot serve the registry's request; None if it can."""
        try:
            check_needs(method, registry, name, server_rows=self.server_rows)
            method.check(registry)
        except InvalidValue as error:
            return f"{name}: {error}"
        return None


def stage_request(request: ForgetRequest, *, reached: bool) -> ForgetRequest:
    """The request as a stage is asked it: nobody of it is asked where its clients are not reached."""
    return replace(request, offline=not reached)
