"""Reconstruction, on demand: which rows does the change of the weights by a request give away?"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from fedlaf.core.errors import require_count, require_number
from fedlaf.core.seeding import torch_stream
from fedlaf.core.types import Weights
from fedlaf.core.weights import is_trainable
from fedlaf.data import LabelledRows, is_image
from fedlaf.evaluation.catalogue import Catalogue, Group, Measure, Sense
from fedlaf.evaluation.inside import load
from fedlaf.evaluation.measure_function import MeasuredModel, MeasureFunction
from fedlaf.evaluation.predictions import Predictions
from fedlaf.evaluation.splits import EvaluationSplits
from fedlaf.models import Classifier

Images = npt.NDArray[np.float64]
WINDOW = 7
"""Pixels a side of the window of SSIM; the whole image where that is smaller."""


@dataclass(frozen=True)
class Reconstruction(MeasureFunction):
    """Likeness of the forgotten images to those whose gradient fits the change from the original to the model
    best: an attack by who sees both models and knows the labels.

    For requests of at most `most_rows` images. x minimises 1 - cos(gradient of the loss of x at the original,
    change of the weights) + `smooth` x the mean total variation, by AdamW (Hu et al., S&P 2024).
    """

    most_rows: int = 8
    steps: int = 300
    rate: float = 0.05
    smooth: float = 0.01

    catalogue: ClassVar[Catalogue] = {
        "reconstruction_psnr": Measure(
            "reconstruction, PSNR", Group.INSIDE, Sense.TRACE, decides=False, unit="dB"
        ),
        "reconstruction_ssim": Measure("reconstruction, SSIM", Group.INSIDE, Sense.TRACE, 2, decides=False),
    }

    def __post_init__(self) -> None:
        require_count("most_rows", self.most_rows)
        require_count("steps", self.steps)
        require_number("rate", self.rate, above=0)
        require_number("smooth", self.smooth, at_least=0)

    def measure(
        self, found: Predictions, splits: EvaluationSplits, model: MeasuredModel
    ) -> Mapping[str, float]:
        """Nothing for more rows, for rows that are no images, or where the model is the original."""
        rows, original = splits.forget, model.original
        if original is None or not 0 < len(rows) <= self.most_rows or not is_image(rows.x):
            return {}
        change = changed(original, model.weights)
        if not change:
            return {}
        made = self.inverted(load(model.network(), original), change, rows)
        psnr, ssim = likeness(made.numpy(), rows.x.numpy() / 255.0)
        return {"reconstruction_psnr": psnr, "reconstruction_ssim": ssim}

    def inverted(self, network: Classifier, change: Mapping[str, Tensor], rows: LabelledRows) -> Tensor:
        """Images [N, C, H, W] in [0, 1], one for each label of `rows`, that explain the `change` best."""
        network = deepcopy(network).eval().double()  # what rounding does grows from step to step
        device = next(network.parameters()).device
        named = dict(network.named_parameters())
        weights, wanted = (
            [named[name] for name in change],
            [part.double().to(device) for part in change.values()],
        )
        begun = torch.rand(rows.x.shape, generator=torch_stream(0, "reconstruction"), dtype=torch.float64)
        x = begun.to(device).requires_grad_()
        labels = rows.y.to(device)
        adam = torch.optim.AdamW([x], lr=self.rate, weight_decay=0.0)
        for _ in range(self.steps):
            loss = functional.cross_entropy(network(x).logits, labels)
            slopes = torch.autograd.grad(loss, weights, create_graph=True)
            adam.zero_grad()
            (1.0 - cosine(slopes, wanted) + self.smooth * variation(x)).backward(inputs=[x])
            adam.step()
            with torch.no_grad():
                x.clamp_(0.0, 1.0)
        return x.detach().cpu()


def changed(before: Weights, after: Weights) -> dict[str, Tensor]:
    """After minus before, of the trainable arrays that are not the same."""
    return {
        name: torch.from_numpy(after[name] - array)
        for name, array in before.items()
        if is_trainable(name, array) and not np.array_equal(array, after[name])
    }


def cosine(one: tuple[Tensor, ...], other: list[Tensor]) -> Tensor:
    """Of the angle between two lists of tensors, each taken as one vector."""
    left, right = (torch.cat([part.flatten() for part in parts]) for parts in (one, other))
    return functional.cosine_similarity(left, right, dim=0)


def variation(x: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels of images [N, C, H, W]."""
    return x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()


def likeness(made: Images, true: Images) -> tuple[float, float]:
    """Mean PSNR in dB and mean SSIM of images [N, C, H, W] in [0, 1], paired by `ordered`."""
    pairs = [*zip(ordered(made, true), true, strict=True)]
    psnr = [10 * np.log10(1.0 / max(float(np.square(one - other).mean()), 1e-10)) for one, other in pairs]
    return float(np.mean(psnr)), float(np.mean([similarity(*pair) for pair in pairs]))


def ordered(made: Images, true: Images) -> Images:
    """The images [N, C, H, W] in the order in which they are nearest to `true`: no attack can know it."""
    from scipy.optimize import linear_sum_assignment

    errors = np.array([[np.square(one - other).mean() for one in made] for other in true])
    _, order = linear_sum_assignment(errors)
    return np.stack([made[at] for at in order])


def similarity(one: Images, other: Images) -> float:
    """SSIM of two images [C, H, W] in [0, 1]: the mean over all windows inside and over channels (Wang et
    al., IEEE TIP 2004; a flat window, and sample covariances, as scikit-image takes).
    """
    side = min(WINDOW, *one.shape[1:])
    left, right = (
        np.lib.stride_tricks.sliding_window_view(image, (side, side), axis=(1, 2)).reshape(-1, side * side)
        for image in (one, other)
    )
    means = left.mean(1), right.mean(1)
    spread = left.var(1, ddof=1) + right.var(1, ddof=1)
    common = ((left - means[0][:, None]) * (right - means[1][:, None])).sum(1) / (side * side - 1)
    first, second = 0.01**2, 0.03**2
    above = (2 * means[0] * means[1] + first) * (2 * common + second)
    return float((above / ((means[0] ** 2 + means[1] ** 2 + first) * (spread + second))).mean())
