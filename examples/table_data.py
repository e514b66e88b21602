"""A table of one's own: scikit-learn's breast cancer set, 569 rows of 30 measurements, two classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fedlaf.data import Dataset, LabelledRows


@dataclass(frozen=True)
class BreastCancer:
    """Every `every`-th row of a shuffle is a test row; columns have mean 0 and deviation 1 in training."""

    every: int = 5

    def prepare(self) -> None:
        """Nothing to do: the file is part of scikit-learn."""

    def load(self) -> Dataset:
        """The same rows in every process."""
        from sklearn.datasets import load_breast_cancer

        x, y = load_breast_cancer(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(y))
        is_test = np.arange(len(y)) % self.every == 0
        train, test = order[~is_test], order[is_test]
        x = (x - x[train].mean(0)) / x[train].std(0)
        parts = [
            LabelledRows(torch.from_numpy(x[at]).float(), torch.from_numpy(y[at])) for at in (train, test)
        ]
        return Dataset("breast_cancer", parts[0], parts[1], 2)
