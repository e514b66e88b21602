"""The VAEs of many clients one by one against one stacked model, on one core.

    python -m benchmarks.stacked [--repeats 7]

One round of `represent` (an epoch of batches of 32) over clients of 100 to 300 rows, representations of 256
dimensions. Both sides take turns; seconds are medians of CPU time. Prints Markdown.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import process_time

import torch

from fedlaf.client.stacked import Lesson, fit_vaes
from fedlaf.client.steps.representations import fit_vae
from fedlaf.models import build_vae
from fedlaf.objectives.laf import Represent
from fedlaf.report.tables import markdown

DIMS = 256
SETTINGS = Represent(lr=2e-3)
WORK = {"10 clients, 100 to 300 rows": (10, True), "50 clients, 100 to 300 rows": (50, True),
        "10 clients, 200 rows": (10, False), "50 clients, 200 rows": (50, False)}  # fmt: skip
STACKS = (4, 8, 16, 50)


def lessons(clients: int, ragged: bool) -> list[Lesson]:
    stream = torch.Generator().manual_seed(0)
    sizes = [int(torch.randint(100, 301, (1,), generator=stream)) if ragged else 200 for _ in range(clients)]
    rows = [torch.randn(size, DIMS, generator=stream) for size in sizes]
    return [
        Lesson(build_vae(DIMS, SETTINGS.latent, "linear", 0), one, 1, torch.Generator().manual_seed(k))
        for k, one in enumerate(rows)
    ]


def alone(given: list[Lesson]) -> None:
    for one in given:
        fit_vae(one.vae, one.rows, SETTINGS, one.epochs, one.stream)


def stacked(given: list[Lesson], stack: int) -> None:
    for start in range(0, len(given), stack):
        fit_vaes(given[start : start + stack], SETTINGS)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    told = parser.parse_args()
    torch.set_num_threads(1)
    rows = [["work", "stack", "one by one (s)", "stacked (s)", "times faster"]]
    for name, (clients, ragged) in WORK.items():
        for stack in (s for s in STACKS if s <= clients):
            slow, fast = [], []
            for _ in range(told.repeats + 1):
                first, second = lessons(clients, ragged), lessons(clients, ragged)
                start = process_time()
                alone(first)
                middle = process_time()
                stacked(second, stack)
                slow.append(middle - start)
                fast.append(process_time() - middle)
            before, after = median(slow[1:]), median(fast[1:])
            rows.append([name, str(stack), f"{before:.3f}", f"{after:.3f}", f"{before / after:.2f}"])
    print(markdown(rows))


if __name__ == "__main__":
    main()
