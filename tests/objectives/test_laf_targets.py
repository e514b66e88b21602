"""Targets of forget rows: exact small cases, numpy in the place of torch, and what holds for any rows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedlaf.core.errors import InvalidValue
from fedlaf.models import Gaussian
from fedlaf.objectives import laf_targets
from fedlaf.objectives.laf_targets import Alignment, TargetRule, without_outlier_direction

FEW = settings(max_examples=50, deadline=None)


def exact(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def flags(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


def rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- what outliers share


def test_outliers_lose_what_they_share_up_to_max_projection() -> None:
    # Ordinary rows lie about (0, 1), outliers on average at (4, 1): the outlier direction is x.
    units = exact([-1, 0], [1, 2], [2, 3], [3, -5], [7, 5])
    found = without_outlier_direction(units, flags(0, 0, 1, 1, 1), 1.5)
    # Of 2 and 3 all goes; of 7 no more than 1.5 * 4. What is across the direction stays.
    assert found.tolist() == [[-1, 0], [1, 2], [0, 3], [0, -5], [1, 5]]


def test_the_outlier_direction_may_be_aslant() -> None:
    # Ordinary (1, 1), outliers (4, 5) on average: direction (3, 4) / 5. (7, 9) is 10 along it, (1, 1) is 0.
    units = exact([1, 1], [7, 9], [1, 1])
    found = without_outlier_direction(units, flags(0, 1, 1), 1.2)
    np.testing.assert_allclose(found, [[1, 1], [7 - 6 * 0.6, 9 - 6 * 0.8], [1, 1]], atol=1e-12)


def test_an_outlier_on_the_other_side_loses_nothing() -> None:
    units = exact([0, 0], [-2, 1], [8, -1])
    found = without_outlier_direction(units, flags(0, 1, 1), 1.5)
    assert found[1].tolist() == [-2, 1]
    assert found[2].tolist() == [8 - 1.5 * 3, -1]


@pytest.mark.parametrize(("ordinary", "contrast"), [(5, 10.0), (4, 0.0)], ids=["5 %", "4 %"])
def test_hardly_any_ordinary_rows_leave_the_mean_of_the_retain_rows_as_the_contrast(
    ordinary: int, contrast: float
) -> None:
    """Below 5 of 100 rows the contrast is 0, else the ordinary rows' mean (10, 0)."""
    outlier = torch.arange(100) >= ordinary
    units = torch.where(outlier[:, None], exact(10, 4), exact(10, 0))
    found = without_outlier_direction(units, outlier, 1.0)
    assert torch.equal(found[~outlier], units[~outlier])
    np.testing.assert_allclose(found[outlier], np.tile([contrast, 0], (100 - ordinary, 1)), atol=1e-12)


@pytest.mark.parametrize("outlier", [flags(0, 0), flags(1, 1)], ids=["no outliers", "at the contrast"])
def test_without_an_outlier_direction_all_rows_stay(outlier: Tensor) -> None:
    units = exact([2, -1], [-2, 1])  # all outliers: no ordinary rows, and their mean is 0
    assert torch.equal(without_outlier_direction(units, outlier, 1.5), units)


def test_no_rows_have_no_targets() -> None:
    assert without_outlier_direction(torch.empty(0, 3), flags(), 1.5).shape == (0, 3)


def direction(units: Tensor, outlier: Tensor) -> tuple[Tensor, Tensor]:
    """The contrast and the outlier direction, unscaled."""
    few = float((~outlier).float().mean()) < laf_targets.FEW
    ordinary = torch.zeros_like(units[0]) if few else units[~outlier].mean(0)
    return ordinary, units[outlier].mean(0) - ordinary


@FEW
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 5), st.floats(0.1, 3))
def test_what_is_along_the_outlier_direction_neither_grows_nor_turns(
    seed: int, count: int, dims: int, max_projection: float
) -> None:
    units, outlier = rows(seed, count, dims) * 3, rows(seed + 1, count) > -0.5
    found = without_outlier_direction(units, outlier, max_projection)
    assert torch.equal(found[~outlier], units[~outlier])
    if not outlier.any():
        return
    ordinary, special = direction(units, outlier)
    unit = special / special.norm()
    before, after = ((u - ordinary) @ unit for u in (units[outlier], found[outlier]))
    lost = before - after
    assert (after * before >= -1e-9).all()
    assert (after.abs() <= before.abs() + 1e-9).all()
    assert (lost >= -1e-9).all()
    assert (lost <= max_projection * special.norm() + 1e-9).all()
    assert (lost[before > 0] > 0).all()
    # Nothing happens across the direction.
    np.testing.assert_allclose(found[outlier] + lost[:, None] * unit, units[outlier], atol=1e-9)


# ---- which rows are outliers


def test_an_outlier_is_what_errs_more_than_the_threshold() -> None:
    rule = TargetRule(outlier_quantile=0.25, threshold=2.0)
    assert rule.outlier(exact(1, 2, 3, 2.0001)).tolist() == [False, False, True, True]


@pytest.mark.parametrize(("outlier", "frequent"), [(10, True), (9, False), (100, True), (0, False)])
def test_outliers_count_where_they_are_twice_as_frequent_as_among_retain_rows(
    outlier: int, frequent: bool
) -> None:
    errors = torch.where(torch.arange(100) < outlier, 5.0, 0.5)
    found = TargetRule(outlier_quantile=0.05, threshold=1.0).outlier(errors)
    assert found.tolist() == [frequent and i < outlier for i in range(100)]
    assert found.dtype == torch.bool


def test_without_projection_or_without_rows_there_are_no_outliers() -> None:
    assert not TargetRule(project_outliers=False, threshold=1.0).outlier(exact(5, 5)).any()
    assert TargetRule(threshold=1.0).outlier(exact()).shape == (0,)


def test_targets_are_found_in_units_of_h() -> None:
    """The same rows stretched and moved, with an h that knows it, have targets stretched and moved."""
    units = rows(3, 60, 4)
    units[30:, 1] += 6
    h = Gaussian(4).double()
    rule = TargetRule(threshold=15.0, error="sum")
    targets, outlier = rule.targets(units, h)
    assert 25 <= int(outlier.sum()) <= 30
    assert torch.equal(targets, without_outlier_direction(units, outlier, rule.max_projection))
    scale, shift = exact(1, 10, 0.1, 3), exact(-5, 0, 5, 100)
    h.shift.copy_(shift)
    h.scale.copy_(scale)
    h.whiten.copy_((1 / scale).diag())
    stretched, same = rule.targets(units * scale + shift, h)
    assert torch.equal(same, outlier)
    np.testing.assert_allclose(stretched, targets * scale + shift, rtol=1e-9, atol=1e-9)


# ---- settings


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        *((TargetRule, "outlier_quantile", value) for value in (0, 0.6, math.nan)),
        *((TargetRule, "max_projection", value) for value in (0, "1")),
        *((TargetRule, "strength", value) for value in (-0.1, math.inf)),
        (TargetRule, "negative_weight", -1),
        *((Alignment, "lr", value) for value in (0, None)),
        (Alignment, "distance", "euclid"),
        (Alignment, "batch_size", 0),
        *((Alignment, "steps", value) for value in (0, 1.5)),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(kind: Any, key: str, value: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        replace(kind(), **{key: value})
    assert caught.value.key == key
    assert caught.value.received is value


def test_distances_to_the_targets() -> None:
    student, targets = exact([3, 4], [0, 2]), exact([0, 4], [0, 1])
    assert Alignment().distances(student, targets).tolist() == [9 / 16, 1]
    found = Alignment(distance="cosine").distances(student, targets)
    np.testing.assert_allclose(found, [1 - 16 / 20, 0], atol=1e-12)
