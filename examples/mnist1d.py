"""A dataset of one's own: MNIST-1D, float series [N, 1, 40] of ten classes, written by several writers.

The rule is that of Greydanus and Kobak, "Scaling Down Deep Learning with MNIST-1D" (ICML 2024, arXiv
2011.14439): each row is the 12 points of a digit's template, padded, stretched, scaled, shifted in time, with
correlated noise where the template is silent, white noise, a slope, and 40 points left. Writers are ours:
each has a slope, a size and a noise of its own, which all its rows have beside their own draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter1d

from fedlaf.core.errors import require_count, require_number
from fedlaf.data import Dataset, LabelledRows

Series = npt.NDArray[np.float64]

TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)
"""The ten digits as the published package draws them (Apache-2.0)."""


@dataclass(frozen=True)
class Mnist1d:
    """`train_rows` and `test_rows` series by `writers`, about as many by each; a writer is a natural group.

    `style` says how far writers differ: 0 is the published set, in which rows differ by their own draws only.
    """

    train_rows: int = 4000
    test_rows: int = 1000
    writers: int = 10
    style: float = 0.5
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("train_rows", "test_rows", "writers"):
            require_count(name, getattr(self, name))
        require_number("style", self.style, at_least=0, at_most=1)

    def prepare(self) -> None:
        """Nothing to do: rows are made."""

    def load(self) -> Dataset:
        """The same rows in every process."""
        rows = self.train_rows + self.test_rows
        labels, writers = np.arange(rows) % 10, np.arange(rows) // 10 % self.writers
        stream = np.random.default_rng(self.seed)
        # Of a writer: what its slopes add, by what its size and its noise are multiplied.
        styles = self.style * stream.uniform(-1, 1, (self.writers, 3)) * [0.5, 0.3, 0.9] + [0, 1, 1]
        made = np.stack([series(int(k), styles[w], stream) for k, w in zip(labels, writers, strict=True)])
        x = torch.from_numpy((made - made.mean()) / made.std()).float()[:, None]
        y, groups = torch.from_numpy(labels), torch.from_numpy(writers)
        order = torch.from_numpy(stream.permutation(rows))
        train, test = order[: self.train_rows], order[self.train_rows :]
        of_train, of_test = (LabelledRows(x[at], y[at]) for at in (train, test))
        return Dataset("mnist1d", of_train, of_test, 10, groups[train])


def series(label: int, style: Series, stream: np.random.Generator) -> Series:
    """One row [40] of `label`, in a writer's `style`: slope, size and noise."""
    digit = TEMPLATES[label] - TEMPLATES[label].mean()
    digit /= digit.std()
    drawn = np.concatenate([(digit - digit[0]) / 6 + 1e-8, np.zeros(stream.integers(36, 61))])
    drawn = resampled(drawn, 72) * style[1] * stream.uniform(0.8, 1.2)
    drawn = np.roll(drawn, stream.integers(48))
    silence = gaussian_filter1d(0.25 * style[2] * stream.standard_normal(72), 2)
    drawn = np.where(drawn != 0, drawn, silence) + 0.02 * style[2] * stream.standard_normal(72)
    slope = style[0] + stream.uniform(-0.375, 0.375)
    return resampled(drawn - slope * np.linspace(-0.5, 0.5, 72), 40)


def resampled(x: Series, points: int) -> Series:
    """The series at so many points, evenly spaced over the same time, by linear interpolation."""
    return np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(x)), x)
