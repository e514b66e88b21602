"""The time of a whole LAF request on one client: the published loop against the fast path.

    python -m benchmarks.laf [--rows 2000] [--repeats 3] [--model cnn|resnet18|both] [--json FILE]

The request is the published data removal: 40 % of the rows of classes 5 to 9, here of the shipped
sample of Fashion-MNIST. Both sides start from the same weights, draw the same batches and the same
noise, and run in turn on one thread; seconds are medians of the process's CPU time, so that other
work on the machine counts little. The published side works on tensors in memory, so what its
authors' data loader would cost is not in the ratio. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import published
from fedlaf.client.steps import laf_loop, representations
from fedlaf.client.steps.laf_loop import Side, Task
from fedlaf.core.seeding import torch_stream
from fedlaf.data import FashionSample, Iid, Rows
from fedlaf.data.federation import FederationSpec, build
from fedlaf.data.request_specs import RemoveSamples
from fedlaf.models import Classifier, Cnn, ResNet18, Vae, build_vae
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.report.tables import markdown

PARTS = ("VAEs", "extractor", "whole request")


@dataclass(frozen=True)
class Request:
    """A model's published hyperparameters over the rows [N, c, h, w] of one client; what is cut short."""

    model: Classifier
    retain: Tensor
    forget: Tensor
    represent: Represent
    forget: Forget
    cut: str

    def vaes(self) -> list[Vae]:
        """h and h_f with their first weights."""
        chosen = self.represent
        return [build_vae(self.model.dims, chosen.latent, chosen.decoder, seed) for seed in (1, 2)]


Seconds = tuple[float, float]
Run = Callable[[Request], tuple[Seconds, nn.Module]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="rows of the client (2000; ResNet-18: 300)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", choices=["cnn", "resnet18", "both"], default="cnn")
    parser.add_argument("--json", type=Path, help="write all figures here too")
    told = parser.parse_args()
    torch.set_num_threads(1)
    names = ["cnn", "resnet18"] if told.model == "both" else [told.model]
    found = {name: measured(REQUESTS[name](told.rows), told.repeats) for name in names}
    for name, figures in found.items():
        print(shown(name, figures))
    if told.json:
        told.json.write_text(json.dumps(found, indent=2) + "\n")


def cnn(rows: int | None) -> Request:
    """The paper's CNN, with the request whole: 10 epochs of each VAE, 20 over the forgotten rows."""
    forget = Forget(lr_unlearning=5e-5, lr_alignment=1e-4, temperature=5, sampled=True)
    return request(Cnn(), rows or 2000, 8, (10, 20), forget, cut="all the published epochs")


def resnet18(rows: int | None) -> Request:
    """ResNet-18 on 28 x 28 pixels; a tenth of the published 10 and 40 epochs, as it is slow."""
    forget = Forget(lr_unlearning=1e-5, lr_alignment=4e-5, temperature=20, sampled=True)
    cut = "a tenth of the published epochs, but the teacher is run once all the same"
    return request(ResNet18(), rows or 300, 16, (1, 4), forget, cut=cut)


REQUESTS = {"cnn": cnn, "resnet18": resnet18}


def request(
    spec: Cnn | ResNet18, rows: int, latent: int, epochs: tuple[int, int], forget: Forget, *, cut: str
) -> Request:
    """One client with `rows` rows of the sample, and what it is asked to forget; epochs (VAE, forget)."""
    federation = build(FederationSpec(FashionSample(train_rows=rows), Iid(), 1, 0))
    asked = RemoveSamples(share=0.4, classes=range(5, 10)).resolve(federation.holdings).of(0)
    data = federation.client(0)
    passes = epochs[1] * ceil(len(asked) / forget.batch_size)
    return Request(
        spec.build(federation.dataset.shape, 10, seed=0).eval(),
        data.inputs(asked).x,
        data.inputs_at(asked).x,
        Represent(latent, "sigmoid", standardise=False, error="sum", epochs=epochs[0], own_epochs=epochs[0]),
        replace(forget, latent=latent, decoder="sigmoid", error="sum", steps=passes),
        cut,
    )


def by_published_loop(given: Request) -> tuple[Seconds, nn.Module]:
    """Seconds of VAEs and of the extractor's updates, and the extractor."""
    extractor = published.as_published(given.model.extractor)
    h, h_f = given.vaes()
    settings, everything = given.represent, torch.cat([given.retain, given.forget])
    start = process_time()
    for vae, x, name in ((h, everything, "h"), (h_f, given.forget, "h_f")):
        drawn = torch_stream(0, name)
        published.fit_vae(vae, extractor, x, settings=settings, epochs=settings.epochs, stream=drawn)
    spread = process_time()
    work = published.Unlearning(extractor, h, h_f, given.retain, given.forget)
    pairs = published.pairs(len(work.retain), len(work.forget), given.forget, torch_stream(0, "rows"))
    published.forget(work, given.forget, pairs, torch_stream(0, "noise"))
    return (spread - start, process_time() - spread), extractor


def by_fast_path(given: Request) -> tuple[Seconds, nn.Module]:
    """The same; the teacher's representations count with the VAEs."""
    extractor = deepcopy(given.model.extractor)
    h, h_f = given.vaes()
    settings = given.represent
    rows = (Rows(given.retain), Rows(given.forget))
    start = process_time()
    teacher = [representations.representations(extractor, r, given.model.dims) for r in rows]
    for vae, e, name in ((h, torch.cat(teacher), "h"), (h_f, teacher[1], "h_f")):
        representations.fit_vae(vae, e, settings, settings.epochs, torch_stream(0, name))
    spread = process_time()
    sides = [Side(r, e, given.forget.weights(e, h)) for r, e in zip(rows, teacher, strict=True)]
    task = Task(extractor, h, h_f, *sides)
    laf_loop.forget(task, given.forget, torch_stream(0, "rows"), torch_stream(0, "noise"))
    return (spread - start, process_time() - spread), extractor


def measured(given: Request, repeats: int) -> dict[str, Any]:
    """Both sides in turn, `repeats` times: seconds of each part of each run, and how far apart the
    two extractors and the start are: the largest difference of a weight, and the norm of all.
    """
    runs = [(by_published_loop(given), by_fast_path(given)) for _ in range(repeats)]
    (_, slow), (_, fast) = runs[-1]
    start, slow_end, fast_end = (_flat(module) for module in (given.model.extractor, slow, fast))
    seconds = {
        side: [dict(zip(PARTS, (*run[place][0], sum(run[place][0])), strict=True)) for run in runs]
        for place, side in enumerate(("published", "fast"))
    }
    return {
        "rows": [len(given.retain), len(given.forget)],
        "epochs": [given.represent.epochs, _epochs(given)],
        "steps": given.forget.steps,
        "cut": given.cut,
        "seconds": seconds,
        "moved": _distance(slow_end, start),
        "apart": _distance(fast_end, slow_end),
    }


def shown(name: str, found: dict[str, Any]) -> str:
    """The figures as text and a Markdown table."""
    vae, forget = found["epochs"]
    rows = [["", "share", "published loop (s)", "fast path (s)", "times faster"]]
    for part in PARTS:
        slow, fast = (median(run[part] for run in found["seconds"][side]) for side in ("published", "fast"))
        whole = median(run[PARTS[-1]] for run in found["seconds"]["published"])
        rows.append([part, f"{100 * slow / whole:.0f} %", f"{slow:.1f}", f"{fast:.1f}", f"{slow / fast:.2f}"])
    (most, norm), (moved, way) = found["apart"], found["moved"]
    kinds = "{} remaining and {} forgotten rows".format(*found["rows"])
    repeats = len(found["seconds"]["fast"])
    return (
        f"{name}: {kinds}; {found['cut']}: {vae} for each VAE, {forget} over the forgotten rows "
        f"({found['steps']} steps); medians of {repeats}\n\n{markdown(rows)}\n\n"
        f"The same work: of all weights together the two extractors differ by {100 * norm / way:.2g} % of "
        f"the way that the published one went; of a single weight by {most:.1e}, the longest way is "
        f"{moved:.1e}.\n"
    )


def _epochs(given: Request) -> int:
    return given.forget.steps // ceil(len(given.forget) / given.forget.batch_size)


def _flat(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def _distance(left: Tensor, right: Tensor) -> tuple[float, float]:
    return float((left - right).abs().max()), float((left - right).norm())


if __name__ == "__main__":
    main()
