"""Arrays in messages that become bytes only where bytes are wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array

STYPE = Array(np.zeros(0)).stype
"""How Flower calls arrays that numpy wrote."""


class HeldArray(Array):
    """A Flower array that stays a numpy array until somebody wants its bytes.

    Between processes of one node it travels by reference (pickle's buffers go to shared memory as they
    are); a transport that sends bytes finds them in `data`, like those of any other array.
    """

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.dtype, self.shape, self.stype = str(array.dtype), tuple(array.shape), STYPE
        self._held = array.view()
        self._held.flags.writeable = False

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """What Flower would have made of the array."""
        return self._plain().data

    def deflate(self) -> bytes:
        """Under the name of Flower's class, which is what a receiver looks for."""
        return self._plain().deflate()

    def _plain(self) -> Array:
        return Array(np.asarray(self._held, order="C"))

    def numpy(self) -> npt.NDArray[Any]:
        """The array itself, read-only."""
        return self._held

    def __reduce__(self) -> tuple[Any, ...]:
        return HeldArray, (self._held,)
