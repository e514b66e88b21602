"""A deployment on this machine: a SuperLink and SuperNodes as processes, TLS and authentication on."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import IO, Any

from benchmarks import deployment_keys

ROOT = Path(__file__).parent.parent
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

RECEIVED = re.compile(r"Receiving: (\S+) message")
ANSWERED = re.compile(r"\[Fleet.PushMessages\] Push replies from node_id=(\d+)")
WITHDRAWN = re.compile(r"fedlaf: client (\d+) is forgotten, its node is asked no more")


class LabFailed(RuntimeError):
    """A process of the deployment ended, or did not come up; says which, and where its log is."""


@dataclass
class Seat:
    """One process of the deployment and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    file: IO[bytes]

    @property
    def told(self) -> str:
        """What it has said so far."""
        return self.log.read_text(errors="replace")


class Lab:
    """Starts all processes on entering, ends all of them on leaving, whatever happens in between.

    `nodes[k]` is the node id under which SuperNode k, which plays client k, was registered.
    """

    def __init__(self, folder: Path, clients: int, *, patience: float = 60.0) -> None:
        self.folder, self.clients, self.patience = folder.absolute(), clients, patience
        self.port = _free_port()
        self.seats: dict[str, Seat] = {}
        self.nodes: dict[int, int] = {}
        self.keys = self.folder / "keys"

    def __enter__(self) -> Lab:
        deployment_keys.make(self.keys, self.clients, [HOST])
        try:
            self._start_superlink()
            with ThreadPoolExecutor(self.clients) as pool:
                self.nodes = dict(enumerate(pool.map(self._register, range(self.clients))))
            for client in range(self.clients):
                self._start_supernode(client)
            self._until("the SuperNodes to be online", self._all_online, pause=0.5)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the SuperNodes, then the SuperLink, then what any of them left behind."""
        superlink = self.seats.pop("superlink", None)
        for group in (list(self.seats.values()), [superlink] if superlink else []):
            for seat in group:
                seat.process.terminate()
            deadline = monotonic() + 20
            for seat in group:
                if _ended(seat.process, within=max(0.0, deadline - monotonic())) is None:
                    seat.process.kill()
                    seat.process.wait()
                seat.file.close()
        self.seats.clear()
        for process in left_in(self.folder):
            os.kill(process, signal.SIGKILL)

    def flwr(self, *words: str) -> dict[str, Any]:
        """What the `flwr` command answers. Raises LabFailed."""
        done = subprocess.run(
            [_command("flwr"), *words, "--format", "json"],
            cwd=ROOT, env=self._environment("operator"), capture_output=True, text=True, check=False,
        )  # fmt: skip
        answer = done.stdout[done.stdout.find("{") :]
        if done.returncode or not answer:
            raise LabFailed(f"flwr {' '.join(words)}: {done.stdout}{done.stderr}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def run(self, overrides: str) -> str:
        """Start a run and follow its log; its id."""
        answer = self.flwr("run", str(ROOT), "lab", "--run-config", f'overrides="{overrides}"')
        run = str(answer["run-id"])
        self._start("log", "flwr", "log", run, "lab", home="operator")
        return run

    def status(self, run: str) -> dict[str, Any]:
        """What the SuperLink knows of a run."""
        (found,) = self.flwr("list", "lab", "--run-id", run)["runs"]
        return dict(found)

    def statuses(self) -> dict[int, dict[str, Any]]:
        """What the SuperLink knows of the nodes, by node id."""
        listed = self.flwr("supernode", "list", "lab", "--verbose")["nodes"]
        return {int(node["node-id"]): node for node in listed}

    def unregister(self, client: int) -> float:
        """Take a client's node out of the federation; the seconds until its SuperNode has ended itself."""
        clock = monotonic()
        self.flwr("supernode", "unregister", str(self.nodes[client]), "lab")
        if _ended(self.seats[f"node-{client}"].process, within=self.patience) is None:
            raise LabFailed(f"SuperNode {client} goes on, though it is unregistered")
        return monotonic() - clock

    def comes_back(self, client: int) -> str:
        """What a SuperNode that starts again with its old key is told when it ends. Raises LabFailed."""
        old = self.seats.pop(f"node-{client}")
        old.file.close()
        old.log.rename(old.log.with_suffix(".before"))
        process = self._start_supernode(client)
        if _ended(process, within=self.patience) is None:
            raise LabFailed(f"SuperNode {client} was let in again")
        (found,) = re.findall(
            r"Failed to initialize[^\n]*\n(?:\[code: \d+\] )?([^\n]*)", self._told(client)
        ) or [""]
        return str(found)

    def received(self, client: int) -> list[str]:
        """Types of the messages that a client's SuperNode has received, by its own log."""
        return RECEIVED.findall(self._told(client))

    def answered(self, client: int) -> int:
        """Replies of a client's node that have reached the SuperLink, by the SuperLink's log."""
        return ANSWERED.findall(self.seats["superlink"].told).count(str(self.nodes[client]))

    def withdrawn(self) -> list[int]:
        """Clients that the run's log says have been forgotten."""
        return [int(client) for client in WITHDRAWN.findall(self.seats["log"].told)]

    def failed(self) -> bool:
        """Whether the run's log says that it has failed."""
        return "Exit Code: " in self.seats["log"].told

    def _told(self, client: int) -> str:
        return self.seats[f"node-{client}"].told

    def _start_superlink(self) -> None:
        home = self._home("superlink")
        self._start(
            "superlink", "flower-superlink", "--host", HOST, "--port", str(self.port),
            "--database", str(home / "state.db"), "--enable-supernode-auth",
            "--ssl-ca-certfile", str(self.keys / "ca.crt"), "--ssl-certfile", str(self.keys / "server.crt"),
            "--ssl-keyfile", str(self.keys / "server.key"), "--disable-runtime-dependency-installation",
        )  # fmt: skip
        connection = f'address = "{HOST}:{self.port}"\nroot-certificates = "{self.keys / "ca.crt"}"\n'
        (self._home("operator") / "config.toml").write_text(
            f'[superlink]\ndefault = "lab"\n\n[superlink.lab]\n{connection}'
        )
        self._until("the SuperLink to listen", self._listens)

    def _start_supernode(self, client: int) -> subprocess.Popen[bytes]:
        return self._start(
            f"node-{client}", "flower-supernode", "--superlink", f"{HOST}:{self.port}",
            "--root-certificates", str(self.keys / "ca.crt"),
            "--auth-supernode-private-key", str(self.keys / f"node-{client}.key"),
            "--host", HOST, "--port", str(_free_port()),
            "--node-config", f"partition-id={client} num-partitions={self.clients}",
        )  # fmt: skip

    def _start(self, name: str, command: str, *words: str, home: str = "") -> subprocess.Popen[bytes]:
        folder = self._home(home or name)
        log = folder / f"{name}.log"
        file = log.open("ab")
        process = subprocess.Popen(
            [_command(command), *words], cwd=folder, env=self._environment(home or name),
            stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt reaches this process alone, which ends them in order
        )  # fmt: skip
        self.seats[name] = Seat(name, process, log, file)
        return process

    def _register(self, client: int) -> int:
        answer = self.flwr("supernode", "register", str(self.keys / f"node-{client}.pub"), "lab")
        return int(answer["node-id"])

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((HOST, self.port)) == 0

    def _all_online(self) -> bool:
        return all(node["status"] == "online" for node in self.statuses().values())

    def _until(self, what: str, holds: Any, pause: float = 0.1) -> None:
        deadline = monotonic() + self.patience
        while not holds():
            self.check()
            if monotonic() > deadline:
                raise LabFailed(f"waited {self.patience:g} seconds for {what}; logs are in {self.folder}")
            sleep(pause)

    def check(self, *gone: int) -> None:
        """Raise LabFailed when a process has ended, other than the SuperNodes of clients that are `gone`."""
        for name, seat in self.seats.items():
            fine = {"log", *(f"node-{client}" for client in gone)}
            if seat.process.poll() is not None and name not in fine:
                raise LabFailed(f"{name} ended with {seat.process.returncode}:\n{seat.told[-2000:]}")

    def _environment(self, name: str) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        return {**os.environ, **SETTINGS, "FLWR_HOME": str(self._home(name)), "PATH": path}

    def _home(self, name: str) -> Path:
        home = self.folder / name
        home.mkdir(parents=True, exist_ok=True)
        return home


def left_in(folder: Path) -> list[int]:
    """Processes whose FLWR_HOME is in `folder`: what a deployment there has left (Linux only)."""
    mark = f"FLWR_HOME={folder.absolute()}/".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:  # it has just ended, or is somebody else's
            continue
    return found


def _ended(process: subprocess.Popen[bytes], within: float) -> int | None:
    """Its exit code; None when it goes on after so many seconds."""
    try:
        return process.wait(within)
    except subprocess.TimeoutExpired:
        return None


def _command(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
