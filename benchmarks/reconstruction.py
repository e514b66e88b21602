"""Which images do the two models around a request give away? `python -m benchmarks.reconstruction`.

A few rows of one client are removed, by several methods from one training. Who has the model from before and
the one from after inverts what changed (fedlaf.evaluation.reconstruction). A line and a row of pictures a
model. The retrained one is the control: its change says of these rows what every exact method says. One step
up the slope of their loss is the positive control, which the attack must invert.

    python -m benchmarks.reconstruction --picture reconstruction.png
    python -m benchmarks.reconstruction seed=101 train.rounds=4      # any KEY=VALUE of a run
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.nn import functional

import fedlaf
from fedlaf.client.runtime import measured_model
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.data import LabelledRows, as_input
from fedlaf.evaluation import Reconstruction, splits_for
from fedlaf.evaluation.inside import load
from fedlaf.evaluation.reconstruction import changed, likeness, ordered
from fedlaf.experiment.config import composed
from fedlaf.experiment.plan import Plan, prepare
from fedlaf.report.plot import save
from fedlaf.report.tables import markdown

FEW = (
    "data=fashion_sample", "corruption=none", "engine=inline", "data.train_rows=4000", "train.rounds=4",
    "evaluation.curve_rows=0",
    "request=remove_samples", "request.share=null", "request.classes=null", "request.rows={0: [0, 1, 2, 3]}",
)  # fmt: skip
METHODS = {
    **{name: (f"forget={name}",) for name in (
        "gradient_ascent", "boundary", "unroll", "scrub", "bad_teacher", "fine_tune", "laf_adam",
    )},
    "laf, min_rows=1": ("forget=laf", "forget.rule.min_rows=1"),  # it refuses so few rows by default
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--picture", type=Path, help="a PNG of the images")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    asked = parser.parse_args()
    keys = [*FEW, *asked.overrides]
    torch.set_num_threads(1)
    plan = prepare(composed([*keys, "forget=nothing"]))
    rows = splits_for(plan.federation, plan.schedule[0][1], ForgetRequest()).forget
    true = rows.x.numpy() / 255.0
    images, table = {"forgotten rows": true}, [["model", "PSNR (dB)", "SSIM"]]
    models = pairs(keys)
    original, _ = models["retrained"]
    models = {"one step up": (original, ascended(plan, original, rows)), **models}
    for name, (before, after) in models.items():
        made = ordered(inverted(plan, rows, before, after), true)
        images[name] = made
        psnr, ssim = likeness(made, true)
        table.append([name, f"{psnr:.1f}", f"{ssim:.2f}"])
    print(markdown(table))
    if asked.picture is not None:
        drawn(images, asked.picture)


def pairs(keys: list[str]) -> dict[str, tuple[Weights, Weights]]:
    """The models before and after the request, of retraining and of each method."""
    found: dict[str, tuple[Weights, Weights]] = {}
    with TemporaryDirectory() as folder:
        for number, (method, own) in enumerate(METHODS.items()):
            earlier = [f"resume={folder}/0"] if found else []
            run = fedlaf.run(*keys, *earlier, *own, folder=f"{folder}/{number}")
            before = run.weights("original")
            found.setdefault("retrained", (before, run.weights("retrained")))
            found[method] = before, run.weights("unlearned")
    return found


def ascended(plan: Plan, weights: Weights, rows: LabelledRows, rate: float = 1.0) -> Weights:
    """The model after one step up the slope of its loss on `rows`; a small one would be lost in rounding."""
    network = load(measured_model(plan.spec), weights).eval()
    loss = functional.cross_entropy(network(as_input(rows.x, torch.device("cpu"))).logits, rows.y)
    names, values = zip(*network.named_parameters(), strict=True)
    slopes = torch.autograd.grad(loss, values)
    moved = {name: rate * slope.numpy() for name, slope in zip(names, slopes, strict=True)}
    return {name: array + moved[name] if name in moved else array for name, array in weights.items()}


def inverted(plan: Plan, rows: LabelledRows, before: Weights, after: Weights) -> np.ndarray:
    """Images [N, C, H, W] that explain the change."""
    network = load(measured_model(plan.spec), before)
    return Reconstruction().inverted(network, changed(before, after), rows).numpy()


def drawn(images: dict[str, np.ndarray], path: Path) -> None:
    """A row of pictures for each model."""
    from matplotlib.figure import Figure

    columns = len(next(iter(images.values())))
    figure = Figure(figsize=(1.2 * columns + 1.6, 1.25 * len(images)), layout="constrained")
    axes = figure.subplots(len(images), columns, squeeze=False)
    for line, (name, held) in zip(axes, images.items(), strict=True):
        for axis, image in zip(line, held, strict=True):
            axis.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    save(figure, path)


if __name__ == "__main__":
    main()
