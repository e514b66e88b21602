"""What outliers lose: one mark, unlike marks, none; on rows whose marks are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedlaf.objectives import laf_closed_form as closed
from fedlaf.objectives import laf_directions as directions
from fedlaf.objectives.laf_closed_form import ClosedForm, Whitening

RULE = ClosedForm(threshold=4.0, typical=1.0)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(*shares: float, rows: int = 400) -> tuple[Tensor, Whitening, Tensor]:
    """Rows [N, 8], of which a share has 12 added along the first axis, another along the second, and so on;
    h of rows without it; the mark of each row, -1 without.
    """
    e = random(rows, 8)
    h = closed.whitening(closed.gram(random(4000, 8, seed=5)))
    marks = torch.full((rows,), -1)
    start = 0
    for axis, share in enumerate(shares):
        marks[start : start + round(share * rows)] = axis
        start += round(share * rows)
    for axis in range(len(shares)):
        e[marks == axis, axis] += 12
    return e, h, marks


def outliers(e: Tensor, h: Whitening) -> tuple[Tensor, Tensor]:
    units = h.units(e)
    return units, RULE.outlier(closed.errors(units))


def first(e: Tensor, h: Whitening) -> Tensor:
    """The direction from rows of typical errors."""
    units, outlier = outliers(e, h)
    sums = directions.outlier_sums(units, outlier, RULE.ordinary(closed.errors(units)))
    return directions.outlier_direction(sums, len(e), RULE)


def found(e: Tensor, h: Whitening) -> tuple[Tensor, Tensor]:
    """The directions and the targets, as one client finds them."""
    units, outlier = outliers(e, h)
    one = first(e, h)
    if len(one) == 0:
        return one, e
    change = directions.target_changes(units, outlier, one, h, clip=RULE.clip)
    left = float(RULE.outlier(closed.errors(h.units(e + change))).sum())
    where = directions.division(closed.gram(units[outlier]))
    sums = directions.divided_sums(units, outlier, one, where, RULE)
    several = directions.final_directions(sums, left, len(e), RULE)
    return several, e + directions.target_changes(units, outlier, several, h, clip=RULE.clip)


@pytest.mark.parametrize("share", [0.15, 0.5, 1.0])
def test_marked_rows_lose_the_mark_and_others_nothing(share: float) -> None:
    e, h, marks = planted(share)
    units, outlier = outliers(e, h)
    assert torch.equal(outlier, marks == 0)
    (direction,), target = found(e, h)
    assert torch.equal(target[marks < 0], e[marks < 0])
    whitened = h.units(target)
    assert float((whitened[outlier] @ direction).max()) <= RULE.clip + 1e-9
    assert float(target[outlier, 0].mean()) < 3
    other = random(8, seed=9)
    other -= (other @ direction) * direction
    assert torch.allclose(whitened @ other, units @ other, atol=1e-9)  # nothing but the component changes


@pytest.mark.parametrize(("first", "second"), [(0.25, 0.25), (0.4, 0.15), (0.5, 0.5), (0.12, 0.6)])
def test_rows_of_two_unlike_marks_lose_each_its_own(first: float, second: float) -> None:
    e, h, marks = planted(first, second)
    several, target = found(e, h)
    assert len(several) == 2
    for axis in (0, 1):
        assert float(e[marks == axis, axis].mean()) > 10
        assert float(target[marks == axis, axis].mean()) < 3
    assert torch.equal(target[marks < 0], e[marks < 0])


def test_one_direction_cannot_take_two_marks() -> None:
    """What the second direction is there for: their mean is neither of them."""
    e, h, marks = planted(0.25, 0.25)
    units, outlier = outliers(e, h)
    target = e + directions.target_changes(units, outlier, first(e, h), h, clip=RULE.clip)
    assert min(float(target[marks == axis, axis].mean()) for axis in (0, 1)) > 5


def test_marked_rows_that_are_no_outliers_do_not_count_as_ordinary() -> None:
    """A mark that half of its rows show weakly: the direction is that of the rows that show it."""
    e, h, _ = planted(0.3)
    weak = slice(150, 300)
    e[weak, 0] += 4.5
    units, outlier = outliers(e, h)
    assert outlier[weak].double().mean() < 0.5
    (direction,), _ = found(e, h)
    marked = units[outlier].mean(0)
    truth = marked - units[300:].mean(0)
    naive = marked - units[~outlier].mean(0)
    assert float(torch.cosine_similarity(direction, truth, dim=0)) > 0.99
    assert float(direction @ truth) > float(naive @ truth / naive.norm())


def test_where_all_rows_are_marked_the_direction_leads_from_the_retain_rows() -> None:
    e, h, _ = planted(1.0)
    e[::2, 0] -= 8.5  # half of them show it weakly
    units, outlier = outliers(e, h)
    (direction,), _ = found(e, h)
    assert float(direction[0]) > 0.99
    assert torch.allclose(direction, units[outlier].mean(0) / units[outlier].mean(0).norm(), atol=0.1)


def test_rare_outliers_have_no_direction() -> None:
    """Up to twice as many as among retain rows are nothing special."""
    e, h, _ = planted(0.09)
    none, target = found(e, h)
    assert none.shape == (0, 8)
    assert torch.equal(target, e)


def test_without_rows_or_outliers_there_is_no_direction() -> None:
    assert directions.outlier_direction(torch.zeros(2, 9, dtype=torch.float64), 0, RULE).shape == (0, 8)


def test_fewer_outliers_than_the_floor_are_none() -> None:
    e, h, _ = planted(0.5, rows=30)
    errors = closed.errors(h.units(e))
    assert not ClosedForm(threshold=4.0, min_rows=16).outlier(errors).any()
    assert int(ClosedForm(threshold=4.0, min_rows=15).outlier(errors).sum()) == 15
    whole = ClosedForm(threshold=4.0, min_rows=16, secure_aggregation=True)
    assert int(whole.outlier(errors).sum()) == 15


def test_outliers_with_few_on_a_side_are_one_kind() -> None:
    e, h, _ = planted(0.3, 0.1)
    units, outlier = outliers(e, h)
    where = directions.division(closed.gram(units[outlier]))
    counted = [
        directions.divided_sums(units, outlier, first(e, h), where, replace(RULE, min_rows=least))[:2, -1]
        for least in (10, 41)
    ]
    assert sorted(counted[0].tolist()) == [40, 120]
    assert sorted(counted[1].tolist()) == [0, 160]
    sums = random(3, 9)
    sums[:, -1] = torch.tensor([160.0, 0.0, 200.0])
    assert len(directions.final_directions(sums, 400, 400, RULE)) == 1
    assert len(directions.final_directions(torch.zeros(3, 9).double(), 0, 0, RULE)) == 0


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(3, 40), parts=st.integers(1, 4), seed=st.integers(0, 99))
def test_sums_of_parts_say_what_the_whole_says(rows: int, parts: int, seed: int) -> None:
    units = random(rows, 3, seed=seed)
    outlier = random(rows, seed=seed + 1) > 0
    every = ClosedForm(min_rows=1, secure_aggregation=True)
    where, one = directions.division(closed.gram(units)), random(1, 3, seed=seed + 2)
    chunks = list(zip(units.tensor_split(parts), outlier.tensor_split(parts), strict=True))
    for sums in (
        lambda u, o: directions.outlier_sums(u, o, ~o),
        lambda u, o: directions.divided_sums(u, o, one, where, every),
    ):
        whole = sums(units, outlier)
        assert torch.allclose(torch.stack([sums(*chunk) for chunk in chunks]).sum(0), whole, atol=1e-12)
        assert float(whole[:-1, -1].sum()) == float(outlier.sum())


def test_the_division_is_at_the_mean_along_the_widest_axis() -> None:
    units = random(500, 4) * torch.tensor([1.0, 5.0, 1.0, 1.0]) + 2
    mean, axis = directions.division(closed.gram(units))
    assert torch.allclose(mean, units.mean(0), atol=1e-9)
    widest = torch.linalg.svd(units - units.mean(0), full_matrices=False).Vh[0]
    assert abs(float(axis @ widest)) == pytest.approx(1, abs=1e-9)
    assert float(axis[1]) > 0.99  # and its largest component is positive
