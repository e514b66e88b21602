"""The errors that a user sees, and the checks that raise them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite, nan


class InvalidValue(ValueError):
    """A value from the user that cannot be used: names its key, what was expected, what came."""

    def __init__(self, key: str, expected: str, received: object) -> None:
        self.key, self.expected, self.received = key, expected, received
        super().__init__(f"{key}: expected {expected}, got {received!r}")

    def within(self, section: str) -> InvalidValue:
        """The same error with its key under `section`, as in `train.rounds`."""
        return InvalidValue(f"{section}.{self.key}", self.expected, self.received)

    def __reduce__(self) -> tuple[type[InvalidValue], tuple[str, str, object]]:
        return (InvalidValue, (self.key, self.expected, self.received))


@contextmanager
def within(section: str) -> Iterator[None]:
    """Errors raised inside name their keys under `section`."""
    try:
        yield
    except InvalidValue as error:
        raise error.within(section) from None


def require(holds: bool, key: str, expected: str, received: object) -> None:
    """Raise `InvalidValue` unless `holds`."""
    if not holds:
        raise InvalidValue(key, expected, received)


def require_one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise `InvalidValue` unless `value` is one of `allowed`."""
    require(value in allowed, key, " or ".join(allowed), value)


def require_count(key: str, value: object, *, at_least: int = 1) -> None:
    """Raise `InvalidValue` unless `value` is a whole number of at least `at_least`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(
        whole and value >= at_least,  # type: ignore[operator]
        key,
        f"a whole number of at least {at_least}",
        value,
    )


def require_number(
    key: str, value: object, *, above: float | None = None, at_least: float | None = None,
    at_most: float | None = None,
) -> None:  # fmt: skip
    """Raise `InvalidValue` unless `value` is a finite number within the bounds given."""
    parts = ["a finite number"]
    holds = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        number = float(value) if holds else nan  # type: ignore[arg-type]
    except OverflowError:  # a whole number beyond what a float holds
        number = nan
    holds = isfinite(number)
    if above is not None:
        parts.append(f"above {above:g}")
        holds = holds and number > above
    if at_least is not None:
        parts.append(f"of at least {at_least:g}")
        holds = holds and number >= at_least
    if at_most is not None:
        parts.append(f"at most {at_most:g}")
        holds = holds and number <= at_most
    require(holds, key, " ".join(parts), value)


class RoundFailed(RuntimeError):
    """A round that cannot be trusted: who was asked, who failed and why."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return str(error).strip().split("\n")[0]
