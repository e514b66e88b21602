"""A SuperLink of Flower on this machine, and what connects to it: simulated nodes, or SuperNodes."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import deployment_keys
from benchmarks.deployment_processes import HOST, LabFailed, Processes, Seat, command_of, free_port

ROOT = Path(__file__).parent.parent

RECEIVED = re.compile(r"Receiving: (\S+) message")
ANSWERED = re.compile(r"\[Fleet.PushMessages\] Push replies from node_id=(\d+)")
WITHDRAWN = re.compile(r"fedlaf: client (\d+) is forgotten, its node is asked no more")
NOT_LET_IN = re.compile(r"Failed to initialize[^\n]*\n(?:\[code: \d+\] )?([^\n]*)")


class SuperLink(Processes):
    """A SuperLink, and the `flwr` command for it, which knows it by the name `lab`."""

    def __init__(self, folder: Path, *, patience: float = 60.0) -> None:
        super().__init__(folder, patience=patience)
        self.port = free_port()

    def _start_superlink(self, *words: str, trust: str) -> None:
        self.start(
            "superlink", "flower-superlink", "--host", HOST, "--port", str(self.port),
            "--database", str(self.home("superlink") / "state.db"),
            "--disable-runtime-dependency-installation", *words,
        )  # fmt: skip
        config = f'[superlink]\ndefault = "lab"\n\n[superlink.lab]\naddress = "{HOST}:{self.port}"\n{trust}\n'
        (self.home("operator") / "config.toml").write_text(config)
        self.until("the SuperLink to listen", self._listens)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((HOST, self.port)) == 0

    def flwr(self, *words: str) -> dict[str, Any]:
        """What the `flwr` command answers. Raises LabFailed."""
        done = subprocess.run(
            [command_of("flwr"), *words, "--format", "json"],
            cwd=ROOT, env=self.environment("operator"), capture_output=True, text=True, check=False,
        )  # fmt: skip
        answer = done.stdout[done.stdout.find("{") :]
        if done.returncode or not answer:
            raise LabFailed(f"flwr {' '.join(words)}: {done.stdout}{done.stderr}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def run(self, overrides: str, *words: str) -> str:
        """Start a run of this folder and follow its log; its id."""
        answer = self.flwr("run", str(ROOT), "lab", "--run-config", f'overrides="{overrides}"', *words)
        run = str(answer["run-id"])
        self.start("log", "flwr", "log", run, "lab", home="operator").ends = True
        return run

    def status(self, run: str) -> dict[str, Any]:
        """What the SuperLink knows of a run."""
        (found,) = self.flwr("list", "lab", "--run-id", run)["runs"]
        return dict(found)

    def withdrawn(self) -> list[int]:
        """Clients that the run's log says have been forgotten."""
        return [int(client) for client in WITHDRAWN.findall(self.seats["log"].told)]

    def failed(self) -> bool:
        """Whether the run's log says that it has failed."""
        return "Exit Code: " in self.seats["log"].told


class Simulation(SuperLink):
    """A SuperLink that simulates nodes, as `flwr run .` starts one."""

    def __enter__(self) -> Simulation:
        try:
            self._start_superlink("--insecure", "--simulation", trust="insecure = true")
        except BaseException:
            self.close()
            raise
        return self


class Lab(SuperLink):
    """A SuperLink and SuperNodes, with TLS and authentication.

    `nodes[k]` is the node id under which SuperNode k, which plays client k, was registered.
    """

    def __init__(self, folder: Path, clients: int, *, patience: float = 60.0) -> None:
        super().__init__(folder, patience=patience)
        self.clients, self.keys = clients, self.folder / "keys"
        self.nodes: dict[int, int] = {}

    def __enter__(self) -> Lab:
        deployment_keys.make(self.keys, self.clients, [HOST])
        try:
            self._start_superlink(
                "--enable-supernode-auth", "--ssl-ca-certfile", str(self.keys / "ca.crt"),
                "--ssl-certfile", str(self.keys / "server.crt"),
                "--ssl-keyfile", str(self.keys / "server.key"),
                trust=f'root-certificates = "{self.keys / "ca.crt"}"',
            )  # fmt: skip
            with ThreadPoolExecutor(self.clients) as pool:
                self.nodes = dict(enumerate(pool.map(self._register, range(self.clients))))
            for client in range(self.clients):
                self._start_supernode(client)
            self.until("the SuperNodes to be online", self._all_online, pause=0.5)
        except BaseException:
            self.close()
            raise
        return self

    def statuses(self) -> dict[int, str]:
        """What the SuperLink thinks of the nodes, by node id."""
        listed = self.flwr("supernode", "list", "lab", "--verbose")["nodes"]
        return {int(node["node-id"]): str(node["status"]) for node in listed}

    def unregister(self, client: int) -> None:
        """Take a client's node out of the federation. Raises LabFailed when its SuperNode goes on."""
        seat = self.seats[f"node-{client}"]
        seat.ends = True
        self.flwr("supernode", "unregister", str(self.nodes[client]), "lab")
        if seat.ended(self.patience) is None:
            raise LabFailed(f"SuperNode {client} goes on, though it is unregistered")

    def comes_back(self, client: int) -> str:
        """What a SuperNode that starts again with its old key is told. Raises LabFailed when it is let in."""
        old = self.seats[f"node-{client}"]
        old.log.rename(old.log.with_suffix(".before"))
        again = self._start_supernode(client)
        if again.ended(self.patience) is None:
            raise LabFailed(f"SuperNode {client} was let in again")
        return " ".join(NOT_LET_IN.findall(again.told))

    def received(self, client: int) -> list[str]:
        """Types of the messages that a client's SuperNode has received, by its own log."""
        return RECEIVED.findall(self.seats[f"node-{client}"].told)

    def answered(self, client: int) -> int:
        """Replies of a client's node that have reached the SuperLink, by the SuperLink's log."""
        return ANSWERED.findall(self.seats["superlink"].told).count(str(self.nodes[client]))

    def _start_supernode(self, client: int) -> Seat:
        return self.start(
            f"node-{client}", "flower-supernode", "--superlink", f"{HOST}:{self.port}",
            "--root-certificates", str(self.keys / "ca.crt"),
            "--auth-supernode-private-key", str(self.keys / f"node-{client}.key"),
            "--host", HOST, "--port", str(free_port()),
            "--node-config", f"partition-id={client} num-partitions={self.clients}",
        )  # fmt: skip

    def _register(self, client: int) -> int:
        answer = self.flwr("supernode", "register", str(self.keys / f"node-{client}.pub"), "lab")
        return int(answer["node-id"])

    def _all_online(self) -> bool:
        return set(self.statuses().values()) == {"online"}
