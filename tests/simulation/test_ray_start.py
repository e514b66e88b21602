"""Ray's start: an address where nothing listens is refused at once, a long temporary folder is got around."""

from __future__ import annotations

import socket
import tempfile

import pytest

from fedlaf.core.errors import InvalidValue
from fedlaf.simulation.ray.engine import RayCluster
from fedlaf.simulation.ray.start import LONGEST_FOLDER, short_folder


def test_an_address_where_nothing_listens_is_refused_in_a_line() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # taken, and nobody listens
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(InvalidValue, match="expected the address of a Ray cluster"):
            RayCluster(address).connect()


def test_a_folder_whose_socket_paths_would_be_too_long_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/short")
    assert short_folder() is None
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + LONGEST_FOLDER * "a")
    assert short_folder() == "/tmp/ray"
