"""What SecAgg+ would cost LAF in closed form: its sums go through Flower's own quantisation.

    python -m benchmarks.secure_sums

SecAgg+ adds whole numbers: each client scales an array to a range that all agree on, and rounds at random to
one of `levels` (Flower's default: 2^22). Here the range is the best that anybody could choose, the largest
entry of any client. A run whose clients' sums go through that is compared with one whose sums are exact.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Message
from flwr.clientapp import ClientApp
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.serverapp import ServerApp

import fedlaf
from fedlaf.protocol.messages import Part
from fedlaf.simulation import Inline, InlineGrid
from fedlaf.simulation.inline import server_context

KEYS = (
    "experiment=smoke", "corruption=backdoor_small", "train.rounds=6", "evaluation.curve_rows=0",
    "data.train_rows=5000",
)  # fmt: skip
MEASURES = ("accuracy_retain", "accuracy_forget", "accuracy_test", "backdoor_success")


class Quantised(InlineGrid):
    """Clients' sums, each as near to itself as so many levels allow."""

    def __init__(self, app: ClientApp, clients: int, levels: int) -> None:
        super().__init__(app, clients)
        self.levels = levels

    def answers(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        replies = list(super().answers(messages, timeout))
        contents = [reply.content.array_records for reply in replies if not reply.has_error()]
        sent = [records[Part.STATISTICS] for records in contents if Part.STATISTICS in records]
        sums = [{name: array.numpy() for name, array in record.items()} for record in sent]
        for name in sums[0] if sums else ():
            span = max(1e-300, *(float(np.abs(one[name]).max()) for one in sums))
            for record, one in zip(sent, sums, strict=True):
                (near,) = dequantize(quantize([one[name]], span, self.levels), span, self.levels)
                record[name] = ArrayRecord([near])["0"]
        yield from replies


@dataclass(frozen=True)
class QuantisedInline:
    """The inline engine with such a grid."""

    levels: int

    def run(self, server: ServerApp, client: ClientApp, clients: int) -> None:
        """Run a server app over clients whose sums are rounded."""
        np.random.seed(0)  # what Flower rounds with
        server(Quantised(client, clients, self.levels), server_context())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    given = arguments.parse_args()
    print(f"{'seed':>4} {'levels':>7} {'distance to retrained':>22} {'to the exact model':>19}")
    for seed in given.seeds:
        keys = (*KEYS, f"seed={seed}")
        with tempfile.TemporaryDirectory() as folder:
            exact = fedlaf.run(*keys, folder=Path(folder) / "exact", engine=Inline())
            for bits in (18, 20, 22):
                rounded = fedlaf.run(*keys, folder=Path(folder) / str(bits), engine=QuantisedInline(2**bits))
                _say(seed, f"2^{bits}", rounded, exact)
            _say(seed, "exact", exact, exact)


def _say(seed: int, levels: str, found: fedlaf.Report, exact: fedlaf.Report) -> None:
    one, other = (report.results[-1] for report in (exact, found))
    apart = np.mean(
        [abs(one.measure(name, "unlearned") - other.measure(name, "unlearned")) for name in MEASURES]
    )
    print(f"{seed:4d} {levels:>7} {other.measure('gap', 'unlearned'):22.2f} {apart:19.2f}", flush=True)


if __name__ == "__main__":
    main()
