"""A real deployment on this machine: `python -m benchmarks.deployment [--folder DIR] [OVERRIDES ...]`.

One SuperLink and a SuperNode for each client, all processes of their own, TLS and SuperNode authentication
on. The federation is trained, a client withdraws and is forgotten, its node is unregistered at once. Then it
is told what each node was asked, and whether the weights are those of the inline engine, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from benchmarks.deployment_lab import Lab
from benchmarks.deployment_processes import LabFailed

BRIEF = ("experiment=smoke", "train.rounds=2", "evaluation.curve_rows=0")
"""What is run when nothing else is asked for."""


PATIENCE = 300.0
"""Seconds for all nodes to come up, and for one to end, on a machine that has other things to do."""


@dataclass(frozen=True)
class Account:
    """One node's account of a run: messages by three who counted them, and what became of the node.

    `asked` is what the ServerApp's records say, `received` the SuperNode's own log, `answered` the
    SuperLink's log; `late` are messages received after the node was unregistered, `ended` the seconds
    from then until its process had ended.
    """

    client: int
    node: int
    asked: int
    received: tuple[str, ...]
    answered: int
    status: str
    late: int | None = None
    ended: float | None = None


@dataclass(frozen=True)
class Seen:
    """What was observed of a run: its state by the SuperLink, seconds, and the nodes' accounts."""

    status: str
    details: str
    seconds: float
    accounts: tuple[Account, ...]

    @property
    def withdrawn(self) -> list[Account]:
        """Accounts of those whose nodes were unregistered."""
        return [account for account in self.accounts if account.ended is not None]


def observed(lab: Lab, overrides: str, folder: Path) -> Seen:
    """Start a run and watch it to its end; nodes of clients that are forgotten are unregistered at once."""
    clock = monotonic()
    run = lab.run(f"{overrides} clients={lab.clients} hydra.run.dir={folder}")
    ended: dict[int, float] = {}
    before: dict[int, int] = {}
    while not (folder / "report.json").is_file() and not lab.failed():
        lab.check()
        for client in set(lab.withdrawn()) - set(ended):
            before[client], told = len(lab.received(client)), monotonic()
            lab.unregister(client)
            ended[client] = monotonic() - told
        sleep(0.2)
    seconds = monotonic() - clock
    while (state := lab.status(run))["status"] == "running":
        sleep(0.5)
    statuses, asked = lab.statuses(), _asked(folder)
    accounts = []
    for client, node in lab.nodes.items():
        received = tuple(lab.received(client))
        late = len(received) - before[client] if client in before else None
        accounts.append(
            Account(
                client, node, asked.get(client, 0), received, lab.answered(client),
                statuses[node], late, ended.get(client),
            )
        )  # fmt: skip
    return Seen(state["status"], state["status-details"], seconds, tuple(accounts))


def inline(overrides: str, clients: int, folder: Path) -> None:
    """The same run on the inline engine."""

    from fedlaf import report
    from fedlaf.experiment import pipeline
    from fedlaf.experiment.flower_app.composing import composed
    from fedlaf.experiment.plan import prepare

    config, _ = composed(f"{overrides} clients={clients} engine=inline")
    pipeline.run(prepare(config), folder, report.Watch())


def differing(one: Path, other: Path) -> list[str]:
    """Stages whose weights are not the same in both runs, bit for bit."""
    names = {path.name for run in (one, other) for path in _weights(run)}
    return sorted(name for name in names if not _same(one / "stages" / name, other / "stages" / name))


def _weights(run: Path) -> list[Path]:
    return [path for path in (run / "stages").glob("*.safetensors") if ".predictions." not in path.name]


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def _asked(folder: Path) -> dict[int, int]:
    """Messages to each client by the records of all stages, and the one by which it enrolled."""
    counts: dict[int, int] = {}
    for path in (folder / "stages").glob("*.json"):
        for record in json.loads(path.read_text()).get("records", ()):
            for client in record["asked"]:
                counts[client] = counts.get(client, 1) + 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--folder", type=Path, help="where reports, keys and logs go, and stay")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("overrides", nargs="*", help=f"as for fedlaf; {' '.join(BRIEF)} when there are none")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)  # so that the processes end with this one
    overrides = " ".join(asked.overrides or BRIEF)
    with TemporaryDirectory() as temporary:
        sys.exit(_demonstrate(overrides, asked.clients, (asked.folder or Path(temporary)).absolute()))


def _demonstrate(overrides: str, clients: int, folder: Path) -> int:
    console, clock = Console(width=None if Console().is_terminal else 120), monotonic()
    with Lab(folder, clients, patience=PATIENCE) as lab:
        console.print(f"a SuperLink and {clients} SuperNodes are up after {monotonic() - clock:.0f} s")
        seen = observed(lab, overrides, folder / "deployed")
        for account in seen.withdrawn:
            console.print(f"node {account.node} again, with the same key: {lab.comes_back(account.client)}")
    if seen.status != "finished:completed":
        raise LabFailed(f"the run ended as {seen.status}: {seen.details}")
    console.print(_table(seen))
    inline(overrides, clients, folder / "inline")
    different = differing(folder / "deployed", folder / "inline")
    same = "the same bits" if not different else f"other weights of {', '.join(different)}"
    console.print(f"the run took {seen.seconds:.0f} s; held against the inline engine: {same}")
    return 1 if different else 0


def _table(seen: Seen) -> Table:
    table = Table("client", "node", "asked", "received", "answered", "the last", "state", "after it left")
    for a in seen.accounts:
        last = a.received[-1] if a.received else ""
        left = "" if a.ended is None else f"{a.late} messages, ended in {a.ended:.1f} s"
        counts = (str(a.asked), str(len(a.received)), str(a.answered))
        table.add_row(str(a.client), str(a.node), *counts, last, a.status, left)
    return table


def _stop(*_: object) -> NoReturn:
    raise SystemExit(143)


if __name__ == "__main__":
    main()
