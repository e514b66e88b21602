"""Files that are on the disk, whole, before the program goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from fedlaf.core.whole_file import DRAFT, sync_to_disk, whole

__all__ = ["DRAFT", "array_bytes", "write_arrays", "write_bytes", "write_text"]


def write_bytes(path: Path, content: bytes, *, sync: bool = True, entry: bool = True) -> None:
    """Write a file that is whole or not there, whenever the process ends; with `sync`, the machine too.

    Without `entry` its folder is not synced: another file in it, written after it, will see to that.
    Raises OSError, and then leaves the file as it was and no draft.
    """
    with whole(path, sync=sync) as draft:
        draft.write_bytes(content)
    if sync and entry:
        sync_to_disk(path.parent)


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a text file that is whole or not there."""
    write_bytes(path, text.encode(), sync=sync)


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]], *, sync: bool = True) -> None:
    """Write arrays as a safetensors file that is whole or not there."""
    write_bytes(path, array_bytes(arrays), sync=sync)


def array_bytes(arrays: Mapping[str, npt.NDArray[Any]], metadata: dict[str, str] | None = None) -> bytes:
    """Arrays as the content of a safetensors file."""
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata)
