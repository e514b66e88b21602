"""h of LAF in closed form: from sums by predicted class, none of too few rows."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedlaf.models import Gaussian
from fedlaf.objectives import laf_closed_form as closed
from fedlaf.objectives import laf_densities as densities
from fedlaf.objectives.laf_densities import Densities


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def h_of(parts: list[tuple[Tensor, Tensor]], classes: int, floor: int = 1) -> Densities:
    """H from the sums of several clients' rows and predictions."""
    sums = [densities.class_sums(e, predicted, classes, floor) for e, predicted in parts]
    by_class, of_classes = (torch.stack([found[k] for found in sums]).sum(0) for k in (0, 1))
    whole = torch.stack([closed.gram(e) for e, _ in parts]).sum(0)
    return densities.densities(whole, of_classes, by_class)


def test_one_class_is_the_gaussian_of_the_package() -> None:
    e = random(500, 5) @ random(5, 5, seed=1) + 3
    h = h_of([(e, torch.zeros(500, dtype=torch.long))], 1)
    other = Gaussian(5).double()
    other.fit(e.mean(0), e.T @ e / len(e))
    assert torch.allclose(h.mean, other.shift, atol=1e-9)
    assert torch.allclose(h.root, other.whiten, atol=1e-9)
    assert torch.allclose(h.units(e), h.within(e, torch.zeros(500, dtype=torch.long)), atol=1e-9)


def test_deviations_within_classes_are_those_of_a_pooled_covariance() -> None:
    """Against numpy, row by row."""
    predicted = torch.arange(600) % 3
    e = random(600, 4) @ random(4, 4, seed=1) + 10 * random(3, 4, seed=2)[predicted]
    h = h_of([(e, predicted)], 4)
    centred = e - torch.stack([e[predicted == k].mean(0) for k in range(3)])[predicted]
    covariance = np.cov(centred.numpy(), rowvar=False, bias=True)
    shrunk = 0.9 * covariance + 0.1 * np.trace(covariance) / 4 * np.eye(4)
    assert np.allclose(h.root @ h.root, np.linalg.inv(shrunk), atol=1e-9)
    assert torch.allclose(h.within(e, predicted), centred @ h.root, atol=1e-9)
    assert torch.allclose(h.covariance, torch.cov(e.T, correction=0), atol=1e-9)
    assert torch.equal(h.means[3], h.mean)  # a class of which there is no row


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(4, 60), clients=st.integers(1, 4), seed=st.integers(0, 99))
def test_any_partition_gives_the_same(rows: int, clients: int, seed: int) -> None:
    e, predicted = random(rows, 3, seed=seed), torch.arange(rows) % 3
    whole = h_of([(e, predicted)], 3)
    parts = h_of(list(zip(e.tensor_split(clients), predicted.tensor_split(clients), strict=True)), 3)
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=6), floor=st.integers(1, 12))
def test_no_group_nor_what_is_left_is_of_few_rows(counts: list[int], floor: int) -> None:
    """The sums of those left out follow from the total: they must be none, or enough."""
    group = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    found = densities.without_few(group, len(counts), floor)
    left = torch.bincount(found, minlength=len(counts) + 1).tolist()
    if sum(counts) >= floor:
        assert all(rows == 0 or rows >= floor for rows in left)
    assert sum(left) == sum(counts)
    kept = [k for k, rows in enumerate(counts) if rows >= floor]
    assert all(left[k] >= counts[k] for k in kept)
    if sum(rows for rows in counts if rows < floor) >= floor:
        assert all(left[k] == counts[k] for k in kept)


def test_where_no_class_has_enough_rows_h_is_one_gaussian() -> None:
    e, predicted = random(30, 3), torch.arange(30) % 10
    h = h_of([(e, predicted)], 10, floor=5)
    assert torch.allclose(h.means, h.mean.expand(10, 3))
    assert torch.allclose(h.root, densities.inverse_root(h.covariance), atol=1e-12)
