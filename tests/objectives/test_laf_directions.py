"""What marked rows lose: one mark, unlike marks, none; on rows whose marks are known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedlaf.objectives import laf_closed_form as closed
from fedlaf.objectives import laf_densities as densities
from fedlaf.objectives import laf_directions as directions
from fedlaf.objectives.laf_closed_form import ClosedForm
from fedlaf.objectives.laf_densities import Densities

RULE = ClosedForm()
CENTRES = 8 * torch.eye(3, 8, dtype=torch.float64)
"""Classes are 11 apart, along other axes than marks."""


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def h_of(e: Tensor, predicted: Tensor) -> Densities:
    by_class, of_classes = densities.class_sums(e, predicted, 3, floor=1)
    return densities.densities(closed.gram(e), of_classes, by_class)


def planted(*shares: float, rows: int = 400, reach: float = 14) -> tuple[Tensor, Tensor, Densities, Tensor]:
    """Rows [N, 8] of three classes and these; h of rows like them; the mark of each row, -1 without.

    A share of the rows has `reach` added along the fifth axis, another along the sixth, and so on.
    """
    labels = torch.arange(rows) % 3
    e = random(rows, 8) + CENTRES[labels]
    others = torch.arange(4000) % 3
    h = h_of(random(4000, 8, seed=5) + CENTRES[others], others)
    marks = torch.full((rows,), -1)
    start = 0
    for number, share in enumerate(shares):
        marks[start : start + round(share * rows)] = number
        start += round(share * rows)
        e[marks == number, 4 + number] += reach
    return e, labels, h, marks


def found(e: Tensor, labels: Tensor, h: Densities, rule: ClosedForm = RULE) -> tuple[Tensor, Tensor, Tensor]:
    """Directions, which rows are marked, targets; as one client finds them."""
    deviations = h.within(e, labels)
    sides = directions.axes(closed.gram(deviations))
    kind = directions.kinds(deviations, sides, rule.clip)
    sums = directions.kind_sums(h.units(e), kind, len(sides), rule.floor)
    marks, towards = directions.directions(sums, rule)
    sides = sides[marks]
    marked = directions.kinds(deviations, sides, rule.clip) < len(sides)
    change = directions.target_changes(h.units(e), marked, towards, h, clip=rule.clip)
    return towards, marked, e + change


@pytest.mark.parametrize("share", [0.12, 0.5, 1.0])
def test_marked_rows_lose_the_mark_and_others_nothing(share: float) -> None:
    e, labels, h, marks = planted(share)
    towards, marked, target = found(e, labels, h)
    assert towards.shape == (1, 8)
    assert marked[marks == 0].all()
    assert marked[marks < 0].double().sum() <= 0.1 * (marks < 0).sum()
    assert float((target - e)[marks < 0].norm(dim=1).sum()) < 0.05 * float((target - e).norm(dim=1).sum())
    assert float(target[marks == 0, 4].mean()) < 3
    # Nothing but the component along the direction changes.
    other = random(8, seed=9)
    other -= (other @ towards[0]) * towards[0]
    assert torch.allclose(h.units(target) @ other, h.units(e) @ other, atol=1e-9)


def test_a_component_is_clipped_at_the_retain_rows_quantile() -> None:
    e, labels, h, _ = planted(0.5)
    towards, marked, target = found(e, labels, h)
    others = torch.arange(4000) % 3
    component = h.units(random(4000, 8, seed=5) + CENTRES[others]) @ towards[0]
    reached = (h.units(target) @ towards[0])[marked]
    assert float(reached.max()) == pytest.approx(float(component.quantile(0.95)), rel=0.05)


@pytest.mark.parametrize(("first", "second"), [(0.25, 0.25), (0.4, 0.15), (0.5, 0.5), (0.12, 0.6)])
def test_rows_of_two_unlike_marks_lose_each_its_own(first: float, second: float) -> None:
    e, labels, h, marks = planted(first, second, reach=18)
    towards, _, target = found(e, labels, h)
    assert len(towards) >= 2
    for number in (0, 1):
        assert float(e[marks == number, 4 + number].mean()) > 16
        assert float(target[marks == number, 4 + number].mean()) < 4


def test_marks_on_both_sides_of_one_axis_are_two() -> None:
    e, labels, h, _ = planted()
    e[:120, 4] += 14
    e[120:240, 4] -= 14
    towards, _, target = found(e, labels, h)
    assert len(towards) == 2
    assert float(towards[0] @ towards[1]) < 0
    assert float(target[:240, 4].abs().mean()) < 3


def test_a_mark_is_found_where_classes_differ_more() -> None:
    """Against all rows a marked row is no outlier: what it is against rows of its predicted class."""
    e, labels, h, marks = planted(0.3)
    e, wide = e + 2 * CENTRES[labels], random(4000, 8, seed=5) + 3 * CENTRES[torch.arange(4000) % 3]
    h = h_of(wide, torch.arange(4000) % 3)
    _, marked, target = found(e, labels, h)
    assert marked[marks == 0].all()
    assert float(target[marks == 0, 4].mean()) < 4


def test_where_all_rows_are_marked_the_direction_leads_from_the_retain_rows() -> None:
    e, labels, h, _ = planted(1.0)
    towards, _, _ = found(e, labels, h)
    start = h.units(e).mean(0)
    assert torch.allclose(towards[0], start / start.norm(), atol=0.02)


@pytest.mark.parametrize(("share", "reach"), [(0.03, 40.0), (0.5, 3.5), (0.0, 0.0)])
def test_what_is_rare_or_near_is_no_mark(share: float, reach: float) -> None:
    """Fewer than twice as many as among retain rows, or an axis along which rows vary a few times more."""
    e, labels, h, _ = planted(share, reach=reach)
    towards, marked, target = found(e, labels, h)
    assert towards.shape == (0, 8)
    assert not marked.any()
    assert torch.equal(target, e)


def test_rows_of_another_spread_than_all_bear_no_mark() -> None:
    e, labels, h, _ = planted()
    assert found(2.5 * (e - CENTRES[labels]) + CENTRES[labels], labels, h)[0].shape == (0, 8)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(3, 40), parts=st.integers(1, 4), seed=st.integers(0, 99))
def test_sums_of_parts_say_what_the_whole_says(rows: int, parts: int, seed: int) -> None:
    units = random(rows, 3, seed=seed)
    sides = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    kind = directions.kinds(units, sides, 0.5)
    whole = directions.kind_sums(units, kind, 6, floor=1)
    chunks = zip(units.tensor_split(parts), kind.tensor_split(parts), strict=True)
    summed = torch.stack([directions.kind_sums(u, k, 6, floor=1) for u, k in chunks]).sum(0)
    assert torch.allclose(summed, whole, atol=1e-12)
    assert float(whole[:, -1].sum()) == rows
    by_hand = (units @ sides.T > 0.5).any(1)
    assert float(whole[:-1, -1].sum()) == int(by_hand.sum())


def test_kinds_of_few_rows_count_to_the_others() -> None:
    kind = torch.tensor([0] * 40 + [1] * 9 + [2] * 31)
    counts = directions.kind_sums(random(80, 3), kind, 2, floor=10)[:, -1]
    assert counts.tolist() == [40, 0, 40]
    # A rest of few rows counts to the largest kind: what is left over of a known total would show it.
    assert directions.kind_sums(random(49, 3), kind[:49], 2, floor=10)[:, -1].tolist() == [49, 0, 0]


def test_an_axis_has_both_sides_and_a_sign_of_its_own() -> None:
    rows = torch.diag(2 * torch.tensor([1.0, 20.0, 30.0, 8.9]).sqrt()).double()
    sides = directions.axes(closed.gram(rows))  # the mean of four rows' squares
    assert torch.allclose(sides, torch.eye(4).double()[[2, 1, 2, 1]] * torch.tensor([[1], [1], [-1], [-1]]))


def test_a_request_without_rows_has_no_axes() -> None:
    assert directions.axes(closed.gram(torch.zeros(0, 3))).shape == (0, 3)
    assert directions.directions(torch.zeros(1, 4, dtype=torch.float64), RULE)[1].shape == (0, 3)
