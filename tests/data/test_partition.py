"""Partitions: every row to exactly one client, whatever the labels, the sizes and the skew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlaf.core.errors import InvalidValue
from fedlaf.data import Dirichlet, Iid, Overlap, Partition, QuantitySkew, Shards

Labels = npt.NDArray[np.int64]

FEW = settings(max_examples=40, deadline=None)
alphas = st.sampled_from([1e-320, 1e-3, 0.1, 1.0, 50.0, 1e6])
seeds = st.integers(0, 2**32)
skews = st.sampled_from([Dirichlet, QuantitySkew])
EACH = [Iid(), Dirichlet(0.3), Shards(3), QuantitySkew(0.5)]


def balanced(classes: int, each: int) -> Labels:
    """`each` rows of every class, in a fixed shuffle."""
    return np.random.default_rng(5).permutation(np.repeat(np.arange(classes), each))


def split(partition: Partition, labels: Labels, clients: int, seed: int) -> tuple[npt.NDArray[np.int64], ...]:
    return partition(labels, clients, np.random.default_rng(seed))


@st.composite
def crowds(draw: Callable[..., Any], each: int = 1) -> tuple[Labels, int]:
    """Labels and a number of clients that have at least `each` rows on average."""
    clients = draw(st.integers(1, 12))
    labels = draw(st.lists(st.integers(0, 4), min_size=clients * each, max_size=clients * each + 60))
    return np.array(labels, dtype=np.int64), clients


def assert_every_row_once(parts: tuple[npt.NDArray[np.int64], ...], rows: int, clients: int) -> None:
    assert len(parts) == clients
    assert all(part.dtype == np.int64 for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(rows))


@FEW
@given(crowds(), seeds)
def test_iid_gives_every_row_once_in_sizes_that_differ_by_at_most_one(
    crowd: tuple[Labels, int], seed: int
) -> None:
    labels, clients = crowd
    parts = split(Iid(), labels, clients, seed)
    assert_every_row_once(parts, len(labels), clients)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@FEW
@given(crowds(), seeds, alphas, skews)
def test_skewed_partitions_give_every_row_once_and_leave_nobody_empty(
    crowd: tuple[Labels, int], seed: int, alpha: float, kind: type[Dirichlet] | type[QuantitySkew]
) -> None:
    labels, clients = crowd
    parts = split(kind(alpha), labels, clients, seed)
    assert_every_row_once(parts, len(labels), clients)
    assert min(len(part) for part in parts) >= 1


@FEW
@given(crowds(each=4), seeds, st.integers(1, 4), skews)
def test_skewed_partitions_keep_min_rows_for_a_tiny_alpha(
    crowd: tuple[Labels, int], seed: int, min_rows: int, kind: type[Dirichlet] | type[QuantitySkew]
) -> None:
    labels, clients = crowd
    parts = split(kind(1e-3, min_rows), labels, clients, seed)
    assert_every_row_once(parts, len(labels), clients)
    assert min(len(part) for part in parts) >= min_rows


@pytest.mark.parametrize("kind", [Dirichlet, QuantitySkew])
def test_as_many_rows_as_clients_gives_one_to_each(kind: type[Dirichlet] | type[QuantitySkew]) -> None:
    parts = split(kind(1e-3), np.zeros(9, np.int64), 9, 0)
    assert [len(part) for part in parts] == [1] * 9


@pytest.mark.parametrize("kind", [Dirichlet, QuantitySkew])
def test_without_min_rows_clients_may_be_empty_and_no_row_is_lost(
    kind: type[Dirichlet] | type[QuantitySkew],
) -> None:
    labels = np.zeros(30, np.int64)
    parts = split(kind(1e-3, 0), labels, 10, 0)
    assert_every_row_once(parts, 30, 10)
    assert any(len(part) == 0 for part in parts)
    assert_every_row_once(split(kind(1e-3, 0), labels[:4], 10, 0), 4, 10)  # fewer rows than clients


@pytest.mark.parametrize("partition", EACH, ids=lambda p: type(p).__name__)
def test_the_stream_alone_decides(partition: Partition) -> None:
    labels = balanced(10, 20)
    before = labels.copy()
    first, again, other = (split(partition, labels, 5, seed) for seed in (1, 1, 2))
    assert [p.tolist() for p in first] == [p.tolist() for p in again]
    assert [p.tolist() for p in first] != [p.tolist() for p in other]
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("partition", EACH, ids=lambda p: type(p).__name__)
def test_rows_are_shuffled_within_a_client(partition: Partition) -> None:
    labels = np.repeat(np.arange(10), 20)
    largest = max(split(partition, labels, 4, 0), key=len)
    assert (np.diff(largest) < 0).any()
    assert (np.diff(labels[largest]) < 0).any()


@FEW
@given(st.integers(1, 10), st.integers(1, 4), st.integers(1, 5), seeds)
def test_shards_no_larger_than_a_class_bound_the_labels_of_a_client(
    clients: int, per_client: int, classes: int, seed: int
) -> None:
    # A shard of at most one class's size lies across at most one border between classes.
    count = clients * per_client
    labels = balanced(classes, -(-count // classes) * 3)
    parts = split(Shards(per_client), labels, clients, seed)
    assert_every_row_once(parts, len(labels), clients)
    most = 2 if -(-len(labels) // count) <= len(labels) // classes else classes
    assert max(len(np.unique(labels[part])) for part in parts) <= most * per_client


def test_shards_that_divide_the_classes_hold_one_label_each() -> None:
    labels = balanced(10, 20)  # 20 shards of 10 rows, two a class
    parts = split(Shards(2), labels, 10, 3)
    assert [len(part) for part in parts] == [20] * 10
    assert max(len(np.unique(labels[part])) for part in parts) <= 2
    assert len({tuple(np.unique(labels[part])) for part in parts}) > 1


@FEW
@given(seeds, st.integers(1, 8), st.integers(1, 60))
def test_dirichlet_with_a_huge_alpha_is_nearly_proportional(seed: int, clients: int, each: int) -> None:
    labels = balanced(4, clients * each)
    for part in split(Dirichlet(1e9, 0), labels, clients, seed):
        assert np.abs(np.bincount(labels[part], minlength=4) - each).max() <= 1


def test_dirichlet_shares_have_the_mean_and_the_variance_of_the_distribution() -> None:
    # Dirichlet(alpha, ..., alpha) over K: mean 1/K, variance (1/K)(1 - 1/K) / (K alpha + 1).
    classes, each, clients, alpha = 400, 50, 4, 0.5
    labels = balanced(classes, each)
    parts = split(Dirichlet(alpha, 0), labels, clients, 11)
    shares = np.array([np.bincount(labels[part], minlength=classes) / each for part in parts])
    np.testing.assert_allclose(shares.mean(1), 1 / clients, atol=0.05)
    variance = (1 / clients) * (1 - 1 / clients) / (clients * alpha + 1)
    np.testing.assert_allclose(shares.var(), variance, rtol=0.1)


def test_a_tiny_alpha_leaves_each_class_to_one_client_and_different_classes_to_different_ones() -> None:
    labels = balanced(10, 30)
    parts = split(Dirichlet(1e-3, 0), labels, 4, 0)
    held = np.array([np.bincount(labels[part], minlength=10) for part in parts])
    assert (held.max(0) >= 29).all()
    assert len(set(held.argmax(0))) > 1


def test_quantity_skew_is_blind_to_labels_and_uneven_in_size() -> None:
    labels = balanced(4, 250)
    parts = split(QuantitySkew(0.5), labels, 5, 0)
    assert [p.tolist() for p in parts] == [p.tolist() for p in split(QuantitySkew(0.5), labels * 0, 5, 0)]
    sizes = [len(part) for part in parts]
    assert max(sizes) > 2 * min(sizes)
    for part in parts:
        if len(part) >= 200:
            assert np.abs(np.bincount(labels[part], minlength=4) / len(part) - 0.25).max() < 0.1


@pytest.mark.parametrize("kind", [Dirichlet, QuantitySkew])
@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf"), "0.3", None, True])
def test_alpha_must_be_a_finite_number_above_zero(kind: type, alpha: object) -> None:
    with pytest.raises(InvalidValue, match=r"^alpha: expected a finite number above 0") as caught:
        kind(alpha)
    assert caught.value.received is alpha


@pytest.mark.parametrize("kind", [Dirichlet, QuantitySkew])
@pytest.mark.parametrize("min_rows", [-1, 1.5, "1", None, True])
def test_min_rows_must_be_a_count(kind: type, min_rows: object) -> None:
    with pytest.raises(InvalidValue, match=r"^min_rows: expected a whole number of at least 0"):
        kind(0.3, min_rows)


@pytest.mark.parametrize("per_client", [0, -2, 1.0, None])
def test_shards_per_client_must_be_a_count(per_client: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^per_client: expected a whole number of at least 1"):
        Shards(per_client)


@pytest.mark.parametrize(
    ("partition", "rows", "clients", "most"),
    [
        (Iid(), 3, 4, 3),
        (Dirichlet(), 3, 4, 3),
        (QuantitySkew(), 3, 4, 3),
        (Dirichlet(min_rows=3), 11, 4, 3),
        (QuantitySkew(min_rows=3), 11, 4, 3),
        (Shards(2), 7, 4, 3),
    ],
)
def test_too_few_rows_are_refused_with_how_many_clients_would_do(
    partition: Partition, rows: int, clients: int, most: int
) -> None:
    labels = np.zeros(rows, np.int64)
    with pytest.raises(
        InvalidValue, match=f"^clients: expected at most {most} clients for {rows} rows, got 4"
    ):
        split(partition, labels, clients, 0)
    assert_every_row_once(split(partition, labels, most, 0), rows, most)


@FEW
@given(st.integers(2, 8), st.integers(0, 7), st.sampled_from([0.2, 0.9, 1.0]), seeds)
def test_overlap_gives_one_client_a_class_alone_and_most_of_another(
    clients: int, client: int, share: float, seed: int
) -> None:
    labels = balanced(4, 40)
    client %= clients
    parts = split(Overlap(client, 2, 3, share), labels, clients, seed)
    assert_every_row_once(parts, len(labels), clients)
    held = [np.bincount(labels[part], minlength=4) for part in parts]
    assert held[client].tolist() == [0, 0, 40, round(share * 40)]
    others = sum(count for k, count in enumerate(held) if k != client)
    assert others.tolist() == [40, 40, 0, 40 - round(share * 40)]
    sizes = [len(part) for k, part in enumerate(parts) if k != client]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("overlap", "clients", "key"),
    [(Overlap(client=5), 5, "client"), (Overlap(unique=9), 5, "unique"), (Overlap(shared=9), 5, "shared")],
)
def test_overlap_refuses_what_is_not_there(overlap: Overlap, clients: int, key: str) -> None:
    with pytest.raises(InvalidValue, match=key):
        split(overlap, balanced(4, 10), clients, 0)


def test_overlap_needs_two_classes() -> None:
    with pytest.raises(InvalidValue, match="shared"):
        Overlap(unique=1, shared=1)
