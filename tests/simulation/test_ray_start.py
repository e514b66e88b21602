"""Ray's start: an address where nothing listens is refused, a folder that will not do is got around."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from fedlaf.core.errors import InvalidValue
from fedlaf.simulation.ray import start
from fedlaf.simulation.ray.engine import Ray, RayCluster
from fedlaf.simulation.ray.start import LONGEST_FOLDER, temporary_folder


def test_an_address_where_nothing_listens_is_refused_in_a_line() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # taken, and nobody listens
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(InvalidValue, match="expected the address of a Ray cluster"):
            RayCluster(address).connect()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> str:
    """TMPDIR is a folder that will do; gives the one that is taken where it is not."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp")
    return f"/tmp/ray-{os.getuid()}/own"


def test_a_folder_that_will_do_is_taken(short: str) -> None:
    assert temporary_folder() is None


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize("kind", ["too long", "not there", "a file"])
def test_a_folder_that_will_not_do_is_replaced(
    variable: str, kind: str, short: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / (LONGEST_FOLDER * "a")
    if kind == "too long":
        folder.mkdir()
    elif kind == "a file":
        folder.write_text("")
    monkeypatch.setenv(variable, str(folder))
    assert temporary_folder() == short
    assert Path(short).parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("fault", ["full", "not writable"])
def test_where_no_folder_will_do_a_line_says_so(
    fault: str, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "full":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    else:

        def refused(**_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(start.tempfile, "TemporaryFile", refused)
    with pytest.raises(InvalidValue, match=r"^TMPDIR: expected a folder to write to, with .* got '/tmp'"):
        temporary_folder()
    with pytest.raises(InvalidValue, match="TMPDIR"):
        Ray(workers=1).connect(1)
    assert not ray.is_initialized()


def test_a_ray_that_does_not_start_is_a_line(short: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise RuntimeError("the raylet died\nand more")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(InvalidValue, match=r"engine: expected a Ray that starts here \(the raylet died\)"):
        Ray(workers=1).connect(1)
