"""Planted backdoors and wrong labels: how many, where, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlaf.core.errors import InvalidValue
from fedlaf.data import Backdoor, Backdoors, Trigger, WrongLabels
from fedlaf.data.corruption import plant

FEW = settings(max_examples=40, deadline=None)


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@FEW
@given(st.integers(0, 200), st.floats(0.001, 1.0), st.integers(0, 2**32))
def test_exactly_the_share_of_rows_is_planted(rows: int, share: float, seed: int) -> None:
    planted = Backdoor(share=share).planted(rows, stream(seed))
    assert planted.dtype == np.bool_
    assert planted.shape == (rows,)
    assert planted.sum() == round(share * rows)


def test_planted_rows_are_spread_and_the_stream_decides_which() -> None:
    first, again, other = (Backdoor(share=0.5).planted(100, stream(s)) for s in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    assert 10 < first[:50].sum() < 40


@pytest.mark.parametrize(("shape", "patch"), [((1, 8, 8), 1), ((3, 8, 10), 4), ((1, 6, 6), 5)])
def test_the_trigger_is_a_white_square_one_pixel_from_the_lower_right(
    shape: tuple[int, int, int], patch: int
) -> None:
    channels, height, width = shape
    x = torch.randint(0, 250, (2, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    marked = Trigger(patch, 9).applied(x)
    assert marked.dtype == torch.uint8
    assert torch.equal(x, before)
    for row in range(2):
        for channel in range(channels):
            for i in range(height):
                for j in range(width):
                    inside = (
                        height - 1 - patch <= i < height - 1 and width - 1 - patch <= j < width - 1
                    )  # the last row and column stay free
                    expected = 255 if inside else int(before[row, channel, i, j])
                    assert int(marked[row, channel, i, j]) == expected


def test_plant_marks_the_marked_rows_alone_and_leaves_the_original_untouched() -> None:
    x = torch.randint(0, 250, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    before = x.clone()
    planted = np.array([True, False, True, False, False])
    marked = plant(x, planted, Trigger(3, 0))
    assert torch.equal(x, before)
    for row, is_planted in enumerate(planted):
        assert torch.equal(marked[row, :, 4:7, 4:7] == 255, torch.full((1, 3, 3), bool(is_planted)))
        rest = torch.ones(1, 8, 8, dtype=torch.bool)
        rest[:, 4:7, 4:7] = not is_planted
        assert torch.equal(marked[row][rest], before[row][rest])


def test_plant_without_marks_is_an_equal_copy() -> None:
    x = torch.full((3, 1, 8, 8), 7, dtype=torch.uint8)
    marked = plant(x, np.zeros(3, bool), Trigger(4, 0))
    assert torch.equal(marked, x)
    assert marked.data_ptr() != x.data_ptr()


@FEW
@given(
    st.lists(st.integers(0, 6), max_size=120), st.integers(7, 9), st.floats(0.01, 1.0), st.integers(0, 2**32)
)
def test_exactly_the_share_of_labels_is_wrong(
    right: list[int], classes: int, share: float, seed: int
) -> None:
    labels = np.array(right, dtype=np.int64)
    before = labels.copy()
    held = WrongLabels(share=share).corrupted(labels, classes, stream(seed))
    # Exact equality says both: that many are chosen, and no chosen one keeps its right label.
    assert (held != labels).sum() == round(share * len(labels))
    assert held.dtype == np.int64
    assert ((held >= 0) & (held < classes)).all()
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_every_wrong_label_occurs_about_equally_often_for_every_right_one(classes: int) -> None:
    # The last class too: an offset drawn below C - 1 would never turn it into C - 2.
    each = 200 * (classes - 1)
    right = np.repeat(np.arange(classes), each)
    held = WrongLabels(share=1.0).corrupted(right, classes, stream(3))
    for label in range(classes):
        counts = np.bincount(held[right == label], minlength=classes)
        assert counts[label] == 0
        wrong = np.delete(counts, label)
        assert wrong.sum() == each
        assert (np.abs(wrong - 200) < 75).all()  # five standard deviations of a count


def test_the_classes_filter_limits_whose_labels_change() -> None:
    right = np.repeat(np.arange(5), 40)
    held = WrongLabels(share=0.6, classes=(1, 4)).corrupted(right, 5, stream())
    changed = held != right
    assert changed.sum() == 48
    assert set(right[changed]) == {1, 4}
    assert set(held[changed]) == {0, 1, 2, 3, 4}  # wrong labels are any, not those of the filter


def test_a_filter_that_nobody_meets_changes_nothing() -> None:
    right = np.zeros(10, np.int64)
    np.testing.assert_array_equal(WrongLabels(share=1.0, classes=(3,)).corrupted(right, 5, stream()), right)


def test_wrong_labels_follow_the_stream() -> None:
    right = np.repeat(np.arange(5), 20)
    first, again, other = (WrongLabels(share=0.5).corrupted(right, 5, stream(s)) for s in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_lists_from_a_configuration_become_hashable() -> None:
    assert hash(Backdoor(clients=[1, 2])) == hash(Backdoor(clients=(1, 2)))
    assert WrongLabels(clients=[1], classes=[2, 3]) == WrongLabels(clients=(1,), classes=(2, 3))
    assert isinstance(hash(WrongLabels(clients=[1], classes=[2])), int)


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan"), "half", None])
@pytest.mark.parametrize("kind", [Backdoor, WrongLabels])
def test_a_share_must_lie_above_zero_and_at_most_one(kind: Any, share: object) -> None:
    with pytest.raises(InvalidValue, match=r"^share: expected a finite number above 0 at most 1"):
        kind(share=share)


@pytest.mark.parametrize(("key", "value"), [("patch", 0), ("patch", 1.5), ("target", -1), ("target", "9")])
def test_patch_and_target_must_be_counts(key: str, value: Any) -> None:
    with pytest.raises(InvalidValue, match=f"^{key}: expected a whole number"):
        Backdoor(**{key: value})


def test_a_trigger_must_fit_the_images_and_the_classes() -> None:
    assert Backdoor(patch=7, target=9).trigger((1, 8, 9), 10) == Trigger(7, 9)
    with pytest.raises(InvalidValue, match=r"^patch: expected fewer than the 8 pixels of an image, got 8"):
        Backdoor(patch=8).trigger((1, 8, 9), 10)
    with pytest.raises(InvalidValue, match=r"^patch: expected fewer than the 8 pixels"):
        Backdoor(patch=8).trigger((1, 9, 8), 10)
    with pytest.raises(InvalidValue, match=r"^target: expected a class below 9, got 9"):
        Backdoor(target=9).trigger((1, 28, 28), 9)


@pytest.mark.parametrize(
    ("place", "rows", "columns"),
    [("lower_left", [4, 5, 6], [1, 2, 3]), ("upper_right", [1, 2, 3], [6, 7, 8]),
     ("upper_left", [1, 2, 3], [1, 2, 3]), ("lower_right", [4, 5, 6], [6, 7, 8])],
)  # fmt: skip
def test_a_trigger_is_in_its_own_corner(place: str, rows: list[int], columns: list[int]) -> None:
    marked = Trigger(3, 9, place=place).applied(torch.zeros(1, 1, 8, 10, dtype=torch.uint8))
    where = (marked[0, 0] == 255).nonzero()
    assert sorted(set(where[:, 0].tolist())) == rows
    assert sorted(set(where[:, 1].tolist())) == columns
    assert len(where) == 9


def test_a_second_trigger_takes_none_of_the_first_ones_rows() -> None:
    taken = Backdoor(share=0.6).planted(50, stream())
    more = Backdoor(share=0.4).planted(50, stream(1), taken=taken)
    assert more.sum() == 20
    assert not (more & taken).any()
    with pytest.raises(InvalidValue, match=r"^share: expected at most the 20 of a client's 50 rows"):
        Backdoor(share=0.5).planted(50, stream(1), taken=taken)


def test_backdoors_are_told_apart_by_their_places() -> None:
    with pytest.raises(InvalidValue, match=r"^each: expected at least one backdoor, each in a place"):
        Backdoors([Backdoor(), Backdoor(target=2)])
    with pytest.raises(InvalidValue, match=r"^each: expected at least one backdoor"):
        Backdoors([])
    with pytest.raises(InvalidValue, match=r"^each\.1: expected a Backdoor"):
        Backdoors([Backdoor(), 3])  # type: ignore[list-item]
    with pytest.raises(InvalidValue, match=r"^place: expected lower_right"):
        Backdoor(place="middle")
