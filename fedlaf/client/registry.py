"""Client steps by name: only what is registered here can be called by a message."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from fedlaf.client.context import ClientContext
from fedlaf.core.errors import InvalidValue
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

    Raises ValueError for a name that is no identifier, or that another function has.
    """

    def register(run: F) -> F:
        if not name.isidentifier():
            raise ValueError(f"a client step's name must be an identifier, got {name!r}")
        known = STEPS.get(name)
        if known is not None and _place(known.run) != _place(run):
            raise ValueError(f"the client step {name!r} is registered by {'.'.join(_place(known.run))}")
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
        except (ImportError, AttributeError, ValueError) as error:
            raise InvalidValue("client.steps", f"modules that can be imported ({error})", module) from None


def _place(run: Run) -> tuple[str, str]:
    return run.__module__, run.__qualname__
