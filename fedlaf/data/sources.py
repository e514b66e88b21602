"""Where rows come from: the sample shipped in the package, scikit-learn's digits, torchvision's sets.

Each source is a frozen value with `load()`, so that a worker process can load for itself what
the configuration names. `prepare()` is called once, by the process that starts the run, and is
the only place that may download.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlaf.core.errors import require, require_count
from fedlaf.core.seeding import numpy_stream
from fedlaf.core.settings import require_effect
from fedlaf.core.types import Indices
from fedlaf.data import torchvision_sets
from fedlaf.data.dataset import Dataset, LabelledRows
from fedlaf.data.sample_file import sample_file


class Source(Protocol):
    """What a data configuration instantiates to: hashable, so that a process loads it once."""

    def __hash__(self) -> int:
        """Equal sources have equal hashes."""

    def prepare(self) -> None:
        """Make sure that `load` will find the data; InvalidValue names what is missing."""

    def load(self) -> Dataset:
        """The dataset. Pure: equal sources load equal tensors in every process."""


@dataclass(frozen=True)
class FashionSample:
    """10,000 training and 2,000 test rows of Fashion-MNIST, stratified, shipped in the package."""

    root: str | None = None
    train_rows: int | None = None
    test_rows: int | None = None

    def __post_init__(self) -> None:
        _check_sizes(self.train_rows, self.test_rows)

    def prepare(self) -> None:
        """Find the file. Raises InvalidValue where there is none."""
        sample_file(self.root)

    def load(self) -> Dataset:
        """The sample, or a stratified part of it."""
        with np.load(sample_file(self.root)) as held:
            train = _rows(held["train_x"], held["train_y"])
            test = _rows(held["test_x"], held["test_y"])
        return subset(Dataset("fashion_sample", train, test, 10), self.train_rows, self.test_rows)


@dataclass(frozen=True)
class Digits:
    """scikit-learn's 1,797 digits of 8 x 8 pixels; the last fifth, stratified, is the test set."""

    root: str | None = None
    train_rows: int | None = None
    test_rows: int | None = None

    def __post_init__(self) -> None:
        require_effect(self, "root", when="a file", holds=False)
        _check_sizes(self.train_rows, self.test_rows)

    def prepare(self) -> None:
        """Nothing to do: the file is part of scikit-learn."""

    def load(self) -> Dataset:
        """The digits, their 17 grey levels spread over 0 to 255."""
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        images = np.round(x.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        test = stratified(y, len(y) // 5, numpy_stream(0, "digits", "test"))
        train = np.setdiff1d(np.arange(len(y)), test)
        whole = Dataset("digits", _rows(images[train], y[train]), _rows(images[test], y[test]), 10)
        return subset(whole, self.train_rows, self.test_rows)


@dataclass(frozen=True)
class Noise:
    """Random images with random labels, as many as wanted: nothing to learn, for timing engines."""

    root: str | None = None
    train_rows: int = 10_000
    test_rows: int = 1_000
    pixels: int = 28
    channels: int = 1
    classes: int = 10

    def __post_init__(self) -> None:
        require_effect(self, "root", when="a file", holds=False)
        _check_sizes(self.train_rows, self.test_rows)
        for name in ("pixels", "channels", "classes"):
            require_count(name, getattr(self, name))

    def prepare(self) -> None:
        """Nothing to do: rows are drawn."""

    def load(self) -> Dataset:
        """The same rows in every process."""
        stream = numpy_stream(0, "noise")
        shape = (self.channels, self.pixels, self.pixels)
        train, test = (
            _rows(
                stream.integers(0, 256, (rows, *shape), dtype=np.uint8),
                stream.integers(0, self.classes, rows),
            )
            for rows in (self.train_rows, self.test_rows)
        )
        return Dataset("noise", train, test, self.classes)


@dataclass(frozen=True)
class Torchvision:
    """One of torchvision's sets: FashionMNIST, MNIST, CIFAR10 or SVHN, in its own format.

    `root` is a folder laid out as torchvision does (`root/FashionMNIST/raw/...`); None looks in
    the user's cache, then where Debian's package puts Fashion-MNIST, then downloads.
    """

    name: str
    root: str | None = None
    train_rows: int | None = None
    test_rows: int | None = None
    download: bool = True

    def __post_init__(self) -> None:
        require(
            self.name in torchvision_sets.SETS, "name", f"one of {list(torchvision_sets.SETS)}", self.name
        )
        _check_sizes(self.train_rows, self.test_rows)

    def prepare(self) -> None:
        """Find the set or download it. Raises InvalidValue that says what to install or set."""
        torchvision_sets.locate(self.name, self.root, download=self.download)

    def load(self) -> Dataset:
        """The set from where `prepare` found it, or a stratified part of it."""
        where = torchvision_sets.locate(self.name, self.root, download=False)
        (train_x, train_y), (test_x, test_y) = torchvision_sets.read(self.name, where)
        whole = Dataset(self.name.lower(), _rows(train_x, train_y), _rows(test_x, test_y), 10)
        return subset(whole, self.train_rows, self.test_rows)


@lru_cache(maxsize=2)
def load_once(source: Source) -> Dataset:
    """The dataset of `source`, loaded once per process."""
    return source.load()


def subset(whole: Dataset, train_rows: int | None, test_rows: int | None) -> Dataset:
    """A stratified part of `whole`, the same in every process. Raises InvalidValue when it holds fewer."""
    train, test = _chosen(whole.train, train_rows, "train_rows"), _chosen(whole.test, test_rows, "test_rows")
    return replace(
        whole,
        train=whole.train if train is None else whole.train.at(train),
        test=whole.test if test is None else whole.test.at(test),
        groups=whole.groups if train is None or whole.groups is None else whole.groups[train],
    )


def stratified(labels: npt.NDArray[np.int64], count: int, stream: np.random.Generator) -> Indices:
    """`count` sorted positions whose classes have the shares that they have in `labels`.

    Shares that are no whole numbers are rounded by largest remainder: within one row of proportional.
    """
    order = stream.permutation(len(labels))
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / max(len(labels), 1))
    quota = np.floor(exact + 1e-9).astype(int)
    short = count - int(quota.sum())
    quota[np.argsort(quota - exact, kind="stable")[:short]] += 1
    chosen = [order[labels[order] == label][:few] for label, few in zip(classes, quota, strict=True)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen])).astype(np.int64)


def _chosen(rows: LabelledRows, count: int | None, key: str) -> Tensor | None:
    """Positions of a stratified part; None is all rows."""
    if count is None or count == len(rows):
        return None
    require(count <= len(rows), key, f"at most the {len(rows)} rows of the set", count)
    return torch.from_numpy(stratified(rows.y.numpy(), count, numpy_stream(0, "subset", key)))


def _rows(x: npt.NDArray[np.uint8], y: npt.NDArray[np.integer]) -> LabelledRows:
    return LabelledRows(torch.from_numpy(x), torch.from_numpy(y.astype(np.int64)))


def _check_sizes(train_rows: int | None, test_rows: int | None) -> None:
    for key, value in (("train_rows", train_rows), ("test_rows", test_rows)):
        if value is not None:
            require_count(key, value)
