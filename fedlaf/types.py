"""Aliases, the legend of shapes, and the error that a wrong value raises.

Shapes, everywhere in the project: N rows of a batch, C classes, D dimensions of a
representation, Z latent dimensions of the VAE, P rows of one client, K clients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite, nan
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

ClientId: TypeAlias = int
"""The partition id of a client, 0 to K - 1; node ids of the transport stay in the strategies."""

Weights: TypeAlias = dict[str, npt.NDArray[Any]]
"""Named arrays of a model, in the order of its state dict."""

Numbers: TypeAlias = dict[str, float]
"""Scalars that a client reports: counts, losses, seconds."""

Indices: TypeAlias = npt.NDArray[np.int64]


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
