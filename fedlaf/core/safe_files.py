"""Files that are whole or not there: written beside their place, brought to the disk, then renamed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

DRAFT = ".part"
"""Ending of a file that is being written: one that a process left behind is no file of the run."""


def write_bytes(path: Path, content: bytes, *, sync: bool = True, entry: bool = True) -> None:
    """Write a file that is whole or not there, whenever the process ends; with `sync`, the machine too.

    Without `entry` its folder is not synced: another file in it, written after it, will see to that.
    Raises OSError, and then leaves the file as it was and no draft.
    """
    draft = path.with_name(path.name + DRAFT)
    try:
        with draft.open("wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk names no file
    if sync and entry:
        sync_folder(path.parent)


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a text file that is whole or not there."""
    write_bytes(path, text.encode(), sync=sync)


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]], *, sync: bool = True) -> None:
    """Write arrays as a safetensors file that is whole or not there."""
    write_bytes(path, array_bytes(arrays), sync=sync)


def array_bytes(arrays: Mapping[str, npt.NDArray[Any]], metadata: dict[str, str] | None = None) -> bytes:
    """Arrays as the content of a safetensors file."""
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata)


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk: without it a renamed file may be gone after a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
