"""What Ray needs to start or to be joined: an address that answers, a folder with a short path."""

from __future__ import annotations

import os
import socket
import tempfile

ANSWER_SECONDS = 30.0
"""How long a cluster's address may take to answer."""

LONGEST_FOLDER = 36
"""Bytes of a temporary folder's path: `/ray/session_..._.../sockets/plasma_store` takes 70 more."""


def reach(address: str) -> None:
    """Raise OSError unless something listens at host:port: Ray itself would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "://" not in host:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()


def short_folder() -> str | None:
    """A folder for Ray's sockets, whose paths end at 107 bytes; None where Ray's own will do."""
    taken = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return "/tmp/ray" if len(os.fsencode(taken)) > LONGEST_FOLDER and os.path.isdir("/tmp") else None
