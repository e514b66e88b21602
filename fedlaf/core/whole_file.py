"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from os import O_RDONLY, close, fsync, strerror
from os import open as open_handle
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from fedlaf.core.types import Weights

DRAFT = ".part"
"""Ending of a file that is being written: one that a process left behind is no file of the run."""


@contextmanager
def whole(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """A draft to write to, beside `path`: it takes that name when the context ends, and goes on an error.

    With `sync` its content is on the disk before it takes the name. Raises OSError with the path, for a full
    disk too.
    """
    draft = path.with_name(path.name + DRAFT)
    try:
        yield draft
        if sync:
            sync_to_disk(draft)
        draft.replace(path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # of a write, which knows no name
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file that is whole or not there."""
    with whole(path) as draft:
        draft.write_text(text)


def save_arrays(path: Path, arrays: Weights, metadata: Mapping[str, str] | None = None) -> None:
    """Write a file of arrays that is whole or not there."""
    with whole(path) as draft:
        fill(draft, arrays, metadata)


def fill(draft: Path, arrays: Weights, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays to a draft. Raises OSError, where safetensors has an error of its own."""
    held = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        save_file(held, draft, metadata=dict(metadata) if metadata else None)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, strerror(code)) from error


def sync_to_disk(path: Path) -> None:
    """Bring a file's content, or a folder's entries, to the disk."""
    handle = open_handle(path, O_RDONLY)
    try:
        fsync(handle)
    finally:
        close(handle)
