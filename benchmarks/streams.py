"""Two hundred requests in one run: does the last cost what the first did, in seconds, memory and open files?

    python -m benchmarks.streams --requests 200

The digits over 20 clients; after each round of training one client asks that three of its rows be forgotten.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from rich.console import Console
from rich.progress import Progress

from fedlaf.client import make_client_app
from fedlaf.experiment.checkpoints import CheckpointStore
from fedlaf.experiment.config import composed
from fedlaf.experiment.plan import Plan, prepare
from fedlaf.experiment.stream.pipeline import StreamPipeline
from fedlaf.report import Watch

CLIENTS, ROWS = 20, 3
KEYS = (
    "data=digits", "model=small_cnn", "corruption=none", "engine=inline", "stream=trace",
    "evaluation.curve_rows=0", f"clients={CLIENTS}", "stream.prefixes=[1]",
    "stream.fallback=null",
)  # fmt: skip
OF_METHOD = {"laf": ("forget.rule.min_rows=1",)}
"""A client forgets three rows: fewer than LAF takes by itself."""


@dataclass(frozen=True)
class Usage:
    """What one request took: CPU seconds of its service and of the whole step, resident megabytes and open
    files after it.
    """

    service: float
    step: float
    megabytes: float
    files: int


@dataclass
class Metered(StreamPipeline):
    """A run that notes what each request takes; nothing else of it is changed."""

    usage: list[Usage] = field(default_factory=list)
    served: float = 0.0

    def serve_batch(self, *given: object, **more: object) -> None:
        began = process_time()
        super().serve_batch(*given, **more)  # type: ignore[arg-type]
        self.served = process_time() - began

    def step(self) -> bool:
        began, done = process_time(), len(self.state.outcomes)
        goes_on = super().step()
        if len(self.state.outcomes) > done:
            gc.collect()
            files = len(os.listdir("/proc/self/fd"))
            self.usage.append(Usage(self.served, process_time() - began, resident(), files))
        return goes_on


def resident() -> float:
    """Resident megabytes of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def trace(requests: int, clients: int, rows: int) -> str:
    """One request a round: rows of one client after the other, none asked for twice."""
    lines = []
    for number in range(requests):
        client, turn = number % clients, number // clients
        named = list(range(turn * rows, (turn + 1) * rows))
        lines.append({"id": f"r{number + 1}", "client": client, "scope": "rows", "rows": named,
                      "issued": number + 1})  # fmt: skip
    return "".join(json.dumps(line) + "\n" for line in lines)


def plan_of(folder: Path, requests: int, method: str, *more: str) -> Plan:
    """A run over that many requests."""
    path = folder / "trace.jsonl"
    path.write_text(trace(requests, CLIENTS, ROWS))
    keys = (*KEYS, f"stream.arrivals.file={path}", f"train.rounds={requests}", f"forget={method}")
    keys += (*OF_METHOD.get(method, ()), *more)
    return prepare(composed(keys), method)


def metered(plan: Plan, folder: Path) -> list[Usage]:
    """Run the plan and give what each request took."""
    found: list[Usage] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        store = CheckpointStore(folder, None, plan.provenance)
        run = Metered(plan, grid, store, Watch(Progress(console=Console(quiet=True), disable=True)))
        run.run()
        found.extend(run.usage)

    plan.engine.run(server, make_client_app(plan.spec), len(plan.federation))
    return found


def summary(usage: list[Usage]) -> dict[str, float]:
    """First and last tenth (after three that warm up), side by side."""
    part = max(len(usage) // 10, 1)
    first, last = usage[3 : 3 + part], usage[-part:]
    service = [statistics.median(u.service for u in some) for some in (first, last)]
    return {
        "requests": len(usage),
        "first_service_seconds": service[0],
        "last_service_seconds": service[1],
        "last_to_first": service[1] / service[0],
        "megabytes_first": first[0].megabytes,
        "megabytes_last": last[-1].megabytes,
        "files_first": first[0].files,
        "files_last": last[-1].files,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--method", default="laf")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found = summary(
            metered(plan_of(folder, given.requests, given.method, *given.overrides), folder / "run")
        )
    print(json.dumps(found, indent=1))
    flat = found["megabytes_last"] <= 1.1 * found["megabytes_first"]
    closed = found["files_last"] <= found["files_first"]
    raise SystemExit(0 if found["last_to_first"] <= 1.2 and flat and closed else 1)


if __name__ == "__main__":
    main()
