"""Files are whole or not there, on a full disk too."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.disk import limited_to

from fedlaf.core.whole_file import save_arrays, whole, write_text

LARGE = {"a.weight": np.zeros(10_000, np.float32)}


@pytest.fixture
def full() -> Iterator[None]:
    """Files of this process may hold 4 kB."""
    with limited_to(4096):
        yield


def test_what_is_written_is_there(tmp_path: Path) -> None:
    save_arrays(tmp_path / "a", LARGE, {"key": "value"})
    assert load_file(tmp_path / "a")["a.weight"].shape == (10_000,)
    write_text(tmp_path / "b", "text")
    assert (tmp_path / "b").read_text() == "text"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize(
    "write", [lambda path: save_arrays(path, LARGE), lambda path: write_text(path, 5000 * "x")]
)
def test_on_a_full_disk_the_old_file_stays_and_no_draft(write, tmp_path: Path, full: None) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "file"
    path.write_text("as it was")
    with pytest.raises(OSError, match="File too large") as failed:
        write(path)
    assert (failed.value.errno, failed.value.filename) == (errno.EFBIG, str(path))
    assert path.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_ones_own_passes_and_leaves_no_draft(tmp_path: Path) -> None:
    def write() -> None:
        with whole(tmp_path / "file") as draft:
            draft.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert list(tmp_path.iterdir()) == []
