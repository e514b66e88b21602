"""Fields of the dataclasses that a user configures: which are keys, and when a key has an effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, field, fields, is_dataclass
from typing import Any

from fedlaf.core.errors import InvalidValue


def internal(default: Any) -> Any:
    """A dataclass field that the program sets: not a key of the configuration."""
    return field(default=default, metadata={"internal": True})


def is_key(of: Field[Any]) -> bool:
    """Whether a user may set this field."""
    return of.init and not of.metadata.get("internal", False)


def require_effect(values: Any, names: str, *, when: str, holds: bool) -> None:
    """Raise InvalidValue for each of the fields `names` of a dataclass that is not at its default
    although, unless `when` holds, it would change nothing.
    """
    for of in fields(values) if not holds else ():
        if of.name in names.split():
            default = of.default if of.default_factory is MISSING else of.default_factory()
            for key, expected, received in _changed(of.name, default, getattr(values, of.name)):
                raise InvalidValue(key, f"{expected!r}, as it has no effect without {when}", received)


def _changed(key: str, default: Any, value: Any) -> Iterator[tuple[str, Any, Any]]:
    if is_dataclass(default) and type(value) is type(default):
        for of in fields(default):
            yield from _changed(f"{key}.{of.name}", getattr(default, of.name), getattr(value, of.name))
    elif value != default:
        yield key, default, value
