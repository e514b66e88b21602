"""Datasets of any dtype and shape: what a model's input becomes, groups, triggers, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedlaf.core.errors import InvalidValue
from fedlaf.data import Backdoor, Dataset, Iid, LabelledRows, Natural, as_input
from fedlaf.data.federation import FederationSpec, build
from fedlaf.data.sources import subset

CPU = torch.device("cpu")
FEW = settings(max_examples=40, deadline=None)


def floats(*shape: int) -> Tensor:
    return 300 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def made(x: Tensor, classes: int = 2, groups: Tensor | None = None) -> Dataset:
    y = torch.arange(len(x)) % classes
    return Dataset("made", LabelledRows(x, y), LabelledRows(x, y), classes, groups)


@dataclass(frozen=True)
class Series:
    """Series whose first value is the number of the row, in five groups of unequal size."""

    rows: int = 60

    def prepare(self) -> None: ...

    def load(self) -> Dataset:
        x = floats(self.rows, 1, 12)
        x[:, 0, 0] = torch.arange(self.rows)
        return made(x, 3, torch.arange(self.rows).sqrt().long() % 5)


@FEW
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
    st.sampled_from([torch.uint8, torch.float32, torch.float64, torch.int64]),
)
def test_inputs_keep_their_shape_and_only_images_are_scaled(sizes: list[int], dtype: torch.dtype) -> None:
    x = floats(*sizes).abs().floor().clamp(0, 255).to(dtype)
    before = x.clone()
    found = as_input(x, CPU)
    assert found.dtype == (torch.int64 if dtype == torch.int64 else torch.float32)
    scale = 255 if dtype == torch.uint8 else 1
    np.testing.assert_array_equal(
        found.numpy(), (x.numpy().astype(found.numpy().dtype) / scale).astype(found.numpy().dtype)
    )
    assert torch.equal(x, before)


def test_images_and_floats_of_four_axes_come_channels_last_and_others_do_not_change() -> None:
    for x in (floats(2, 3, 5, 4), floats(2, 3, 5, 4).byte()):
        assert as_input(x, CPU).is_contiguous(memory_format=torch.channels_last)
    series = floats(7, 1, 40)
    assert torch.equal(as_input(series, CPU), series)
    assert float(as_input(series, CPU).abs().max()) > 300  # neither scaled nor cut


@pytest.mark.parametrize("shape", [(1, 40), (30,), (3, 8, 9), (2, 3, 4, 5)])
def test_a_set_has_the_shape_of_its_inputs(shape: tuple[int, ...]) -> None:
    assert made(floats(4, *shape)).shape == shape


def test_the_largest_input_is_white_for_images_and_the_maximum_for_floats() -> None:
    x = floats(9, 1, 20)
    assert made(x).largest_input == float(x.max())
    assert made(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)).largest_input == 255


GOOD: dict[str, Any] = {
    "train_x": torch.zeros(4, 3), "train_y": torch.zeros(4).long(), "test_x": torch.zeros(2, 3),
    "test_y": torch.zeros(2).long(), "classes": 2, "groups": None,
}  # fmt: skip
BAD = {
    "other shape": ({"test_x": torch.zeros(2, 4)}, r"^test_x: expected torch.float32 inputs of shape \[3\]"),
    "other dtype": ({"test_x": torch.zeros(2, 3).byte()}, r"^test_x: expected torch.float32 inputs"),
    "labels": ({"train_y": torch.full((4,), 2)}, r"^train_y: expected labels from 0 to 1, got \[2\]"),
    "negative": ({"test_y": torch.tensor([0, -1])}, r"^test_y: expected labels from 0 to 1"),
    "too few labels": ({"train_y": torch.zeros(3).long()}, r"^train_y: expected int64 labels of 4 rows"),
    "float labels": ({"train_y": torch.zeros(4)}, r"^train_y: expected int64 labels of 4 rows"),
    "nan": ({"train_x": torch.full((4, 3), torch.nan)}, r"^train_x: expected finite numbers"),
    "infinite": ({"test_x": torch.full((2, 3), torch.inf)}, r"^test_x: expected finite numbers"),
    "groups": ({"groups": torch.zeros(3).long()}, r"^groups: expected int64 groups of the 4 training rows"),
    "float groups": ({"groups": torch.zeros(4)}, r"^groups: expected int64 groups"),
}


@pytest.mark.parametrize(("wrong", "line"), BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_is_refused(wrong: dict[str, Any], line: str) -> None:
    def of(parts: dict[str, Any]) -> Dataset:
        train, test = (LabelledRows(parts[f"{k}_x"], parts[f"{k}_y"]) for k in ("train", "test"))
        return Dataset("x", train, test, parts["classes"], parts["groups"])

    of(GOOD)
    with pytest.raises(InvalidValue, match=line):
        of(GOOD | wrong)


def test_a_part_of_a_set_keeps_each_rows_group() -> None:
    whole = Series().load()
    part = subset(whole, 24, 10)
    assert (len(part.train), len(part.test)) == (24, 10)
    assert whole.groups is not None
    assert part.groups is not None
    numbers = part.train.x[:, 0, 0].long()
    assert torch.equal(part.groups, whole.groups[numbers])
    assert torch.equal(part.train.y, whole.train.y[numbers])
    assert subset(whole, None, 10).groups is whole.groups


# ---- natural partitions


@FEW
@given(st.data(), st.integers(0, 2**32))
def test_clients_hold_whole_groups_and_every_row_once(data: Any, seed: int) -> None:
    groups = np.array(data.draw(st.lists(st.integers(-3, 9), min_size=1, max_size=80)), dtype=np.int64)
    named = np.unique(groups)
    clients = data.draw(st.integers(1, len(named)))
    parts = Natural()(groups * 0, clients, np.random.default_rng(seed), groups=groups)
    assert len(parts) == clients
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(groups)))
    for k, part in enumerate(parts):
        assert part.dtype == np.int64
        assert set(groups[part]) == set(
            named[k::clients]
        )  # round-robin; one group each where there are as many


def test_rows_are_shuffled_within_a_group_and_the_stream_decides_how() -> None:
    groups = np.repeat([4, 2], 50)
    first, again, other = (
        Natural()(groups * 0, 2, np.random.default_rng(s), groups=groups) for s in (1, 1, 2)
    )
    assert [p.tolist() for p in first] == [p.tolist() for p in again] != [p.tolist() for p in other]
    assert first[0].min() == 50  # groups in their order: 2 before 4
    assert (np.diff(first[0]) < 0).any()


def test_a_set_without_groups_and_more_clients_than_groups_are_refused() -> None:
    stream = np.random.default_rng(0)
    with pytest.raises(InvalidValue, match=r"^partition: expected another one than natural for data without"):
        Natural()(np.zeros(5, np.int64), 2, stream)
    with pytest.raises(InvalidValue, match=r"^clients: expected at most the 2 groups of the data, got 3"):
        Natural()(np.zeros(4, np.int64), 3, stream, groups=np.array([0, 0, 1, 1]))


def test_a_federation_deals_out_groups_but_for_the_servers_rows() -> None:
    source = Series()
    federation = build(FederationSpec(source, Natural(), 5, 3, server_rows=10))
    groups = source.load().groups
    assert groups is not None
    held = [federation.client(k).rows.x[:, 0, 0].long() for k in range(5)]
    for k, numbers in enumerate(held):
        assert set(groups[numbers].tolist()) == {k}
    server = federation.on_server().x[:, 0, 0].long()
    assert sorted(torch.cat([*held, server]).tolist()) == list(range(60))


# ---- triggers in series


def test_a_series_trigger_holds_some_steps_at_the_largest_input() -> None:
    source = Series()
    federation = build(FederationSpec(source, Iid(), 2, 0, backdoor=Backdoor((0,), 0.5, 3, 1)))
    (trigger,), whole = federation.triggers, source.load().train.x
    marked = trigger.applied(whole)
    assert (marked[..., 8:11] == whole.max()).all()
    assert torch.equal(marked[..., :8], whole[..., :8])
    assert torch.equal(marked[..., 11:], whole[..., 11:])
    rows = federation.client(0).rows
    carries = (rows.x[..., 8:11] == whole.max()).all(2).flatten()
    assert int(carries.sum()) == 15
    assert (rows.y[carries] == 1).all()


def test_a_patch_must_be_shorter_than_the_series() -> None:
    Backdoor(patch=11, target=1).trigger((1, 12), 2)
    with pytest.raises(InvalidValue, match=r"^patch: expected fewer than the 12 steps of a series, got 12"):
        Backdoor(patch=12, target=1).trigger((1, 12), 2)


def test_a_table_has_no_place_for_a_patch() -> None:
    @dataclass(frozen=True)
    class Table:
        def prepare(self) -> None: ...

        def load(self) -> Dataset:
            return made(floats(20, 5))

    line = (
        r"^corruption.backdoor: expected null \(corruption=none\) where inputs are neither images nor series"
    )
    with pytest.raises(InvalidValue, match=line):
        build(FederationSpec(Table(), Iid(), 2, 0, backdoor=Backdoor(target=1)))
