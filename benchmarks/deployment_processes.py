"""Processes with logs and homes of their own, all of which end with the one that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from types import TracebackType
from typing import IO

HOST = "127.0.0.1"

SETTINGS = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # what a run needs is installed here
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.25",  # a second by default
    "NO_PROXY": "127.0.0.1,localhost",
    "NO_COLOR": "1",
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
}
"""Environment of every process of Flower here."""

FOR_GRACE = 20.0
"""Seconds in which a process may end by itself before it is killed."""


class LabFailed(RuntimeError):
    """A process ended, or did not come up; says which, and where its log is."""


@dataclass
class Seat:
    """One process and its log; `ends` says that it may end while the others go on."""

    process: subprocess.Popen[bytes]
    log: Path
    file: IO[bytes]
    ends: bool = False

    @property
    def told(self) -> str:
        """What it has said so far."""
        return self.log.read_text(errors="replace")

    def ended(self, within: float) -> int | None:
        """Its exit code; None when it goes on after so many seconds."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            return None


class Processes:
    """Starts processes whose homes are in `folder`; ends all of them on leaving, whatever happened."""

    def __init__(self, folder: Path, *, patience: float = 60.0) -> None:
        self.folder, self.patience = folder.absolute(), patience
        self.seats: dict[str, Seat] = {}
        # Flower's simulation joins the Ray that is noted in Ray's folder, and ends with it. A short path, for
        # sockets lie in it.
        self.ray = TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, the first one last, then what any of them left behind."""
        seats = list(self.seats.values())
        self._end(seats[1:])
        self._end(seats[:1])
        self.seats.clear()
        deadline = monotonic() + FOR_GRACE
        while (left := left_in(self.folder)) and monotonic() < deadline:
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            sleep(0.1)
        self.ray.cleanup()

    def _end(self, seats: list[Seat]) -> None:
        for seat in seats:
            seat.process.terminate()
        deadline = monotonic() + FOR_GRACE
        for seat in seats:
            if seat.ended(max(0.0, deadline - monotonic())) is None:
                seat.process.kill()
                seat.process.wait()
            seat.file.close()

    def start(self, name: str, command: str, *words: str, home: str = "") -> Seat:
        """Start a command of this environment; its FLWR_HOME is `home`, or has its name.

        A process that had the name before is ended.
        """
        self._end([self.seats.pop(name)] if name in self.seats else [])
        folder = self.home(home or name)
        log = folder / f"{name}.log"
        file = log.open("wb")
        process = subprocess.Popen(
            [command_of(command), *words], cwd=folder, env=self.environment(home or name),
            stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt reaches this process alone, which ends them in order
        )  # fmt: skip
        self.seats[name] = Seat(process, log, file)
        return self.seats[name]

    def until(self, what: str, holds: Callable[[], bool], pause: float = 0.1) -> None:
        """Wait until something holds. Raises LabFailed when a process ends, or patience does."""
        deadline = monotonic() + self.patience
        while not holds():
            self.check()
            if monotonic() > deadline:
                raise LabFailed(f"waited {self.patience:g} seconds for {what}; logs are in {self.folder}")
            sleep(pause)

    def check(self) -> None:
        """Raise LabFailed when a process has ended that may not."""
        for name, seat in self.seats.items():
            if not seat.ends and seat.process.poll() is not None:
                raise LabFailed(f"{name} ended with {seat.process.returncode}:\n{seat.told[-2000:]}")

    def environment(self, name: str) -> dict[str, str]:
        """The environment of a process, with this interpreter's commands before all others."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        own = {"FLWR_HOME": str(self.home(name)), "RAY_TMPDIR": self.ray.name, "PATH": path}
        return {**os.environ, **SETTINGS, **own}

    def home(self, name: str) -> Path:
        """The folder of a process."""
        home = self.folder / name
        home.mkdir(parents=True, exist_ok=True)
        return home


def left_in(folder: Path) -> list[int]:
    """Processes whose FLWR_HOME is in `folder`: what a deployment there has left (Linux only)."""
    mark = f"FLWR_HOME={folder.absolute()}/".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has just ended, or is somebody else's
            if mark in entry.read_bytes():
                found.append(int(entry.parent.name))
    return found


def command_of(name: str) -> str:
    """A command of the environment that this interpreter belongs to."""
    return str(Path(sys.executable).parent / name)


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
