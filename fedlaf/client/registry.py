"""Client steps by name: only what is registered here can be called by a message."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from fedlaf.client.context import ClientContext
from fedlaf.core.errors import InvalidValue, require
from fedlaf.protocol.messages import Reply

Run = Callable[[ClientContext, Any], Reply]
F = TypeVar("F", bound=Run)


@dataclass(frozen=True)
class NoSettings:
    """Settings of a client step that takes none."""


@dataclass(frozen=True)
class ClientStep:
    """A registered step: `run(context, settings)`, and the dataclass that its settings are read into."""

    settings: type
    run: Run


STEPS: dict[str, ClientStep] = {}
"""All registered steps; a message of type `train.NAME` calls the one of that name."""


def client_step(name: str, settings: type) -> Callable[[F], F]:
    """Register a function as the client step `name`.

    Raises InvalidValue for a name that is no identifier, or that another function has.
    """

    def register(run: F) -> F:
        require(name.isidentifier(), "client_step", "a name that is an identifier", name)
        known = STEPS.get(name)
        if known is not None and _place(known.run) != _place(run):
            taken = f"a name that {'.'.join(_place(known.run))} does not have already"
            raise InvalidValue("client_step", taken, name)
        STEPS[name] = ClientStep(settings, run)
        return run

    return register


def import_steps(modules: Iterable[str]) -> None:
    """Import the modules that register steps, named themselves or by what they define.

    Raises InvalidValue for one that cannot be imported.
    """
    for module in modules:
        try:
            pkgutil.resolve_name(module)
        except InvalidValue:  # from `client_step`
            raise
        except (ImportError, AttributeError, ValueError) as error:
            raise InvalidValue("client.steps", f"modules that can be imported ({error})", module) from None


def _place(run: Run) -> tuple[str, str]:
    return run.__module__, run.__qualname__
