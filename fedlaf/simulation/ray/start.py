"""What Ray needs to start or to be joined: an address that answers, a folder with room and a short path."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile

from fedlaf.core.errors import InvalidValue

ANSWER_SECONDS = 30.0
"""How long a cluster's address may take to answer."""

LONGEST_FOLDER = 36
"""Bytes of a temporary folder's path: `/ray/session_..._.../sockets/plasma_store` takes 70 more."""

ROOM_MB = 20
"""Room for the logs and sockets of a session."""

PLACES = ("/tmp", "/var/tmp", "/dev/shm")
"""Where else a session's folder may lie."""


def reach(address: str) -> None:
    """Raise OSError unless something listens at host:port: Ray itself would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "://" not in host:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()


def temporary_folder() -> str | None:
    """A folder for Ray's sockets and logs; None where Ray's own will do.

    Where that is too long, full or not writable it is a short one of this user alone. Raises InvalidValue
    where no folder of the machine will do.
    """
    taken = os.environ.get("RAY_TMPDIR") or _temporary()
    if _will_do(taken):
        return None
    for place in PLACES:
        private = f"{place}/ray-{os.getuid()}"
        folder = f"{private}/own"  # Ray opens its folder to everybody
        with contextlib.suppress(OSError):
            os.makedirs(folder, exist_ok=True)
            os.chmod(private, 0o700)  # refused where it is another user's
            if _will_do(folder):
                return folder
    expected = f"a folder to write to, with {ROOM_MB} MB of room, in a path of {LONGEST_FOLDER} bytes or less"
    raise InvalidValue("TMPDIR", expected, taken)


def _temporary() -> str:
    """What TMPDIR says, though nothing can be written there; else what Python finds."""
    try:
        return os.environ.get("TMPDIR") or tempfile.gettempdir()
    except FileNotFoundError:  # no folder of the machine can be written to
        return "/tmp"


def _will_do(folder: str) -> bool:
    """Whether Ray can begin a session there."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"fedlaf")
            probe.flush()
        room = shutil.disk_usage(folder).free >= ROOM_MB * 2**20
    except OSError:
        return False
    return room and len(os.fsencode(folder)) <= LONGEST_FOLDER
