"""A federation: the same in every process, corrupted where it is configured and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedlaf.core.errors import InvalidValue
from fedlaf.data import Backdoor, Backdoors, Digits, Dirichlet, Iid, Rows, WrongLabels, load_once
from fedlaf.data.federation import ClientData, Federation, FederationSpec, build

CLEAN = FederationSpec(Digits(train_rows=120, test_rows=30), Iid(), 4, 0)
BACKDOOR = Backdoor(clients=(1,), share=0.5, patch=2, target=3)
WRONG = WrongLabels(clients=(2,), share=0.5)


def fresh(spec: FederationSpec) -> Federation:
    """Built again, as another process would."""
    return build.__wrapped__(spec)


def right_labels(federation: Federation, client: int) -> np.ndarray[Any, Any]:
    return federation.dataset.train.y.numpy()[federation.parts[client]]


def test_a_clean_federation_hands_every_row_to_one_client_as_it_is() -> None:
    federation = build(CLEAN)
    assert len(federation) == 4
    assert federation.sizes == {0: 30, 1: 30, 2: 30, 3: 30}
    assert sorted(np.concatenate(federation.parts).tolist()) == list(range(120))
    assert federation.triggers == ()
    for client in range(4):
        data = federation.client(client)
        positions = torch.from_numpy(federation.parts[client])
        assert torch.equal(data.rows.x, federation.dataset.train.x[positions])
        assert torch.equal(data.rows.y, federation.dataset.train.y[positions])
        assert not federation.planted[client].any()
        assert not federation.wrong[client].any()


def test_build_is_cached_and_pure() -> None:
    spec = replace(CLEAN, backdoor=BACKDOOR, wrong_labels=WRONG)
    first = build(spec)
    assert build(replace(spec)) is first
    again = fresh(spec)
    assert again is not first
    for name in ("parts", "labels", "planted", "wrong"):
        for left, right in zip(getattr(first, name), getattr(again, name), strict=True):
            np.testing.assert_array_equal(left, right)
    assert torch.equal(first.client(1).rows.x, again.client(1).rows.x)


def test_the_dataset_is_shared_and_stays_clean() -> None:
    before = load_once(CLEAN.source).train.x.clone()
    federation = build(replace(CLEAN, backdoor=replace(BACKDOOR, share=1.0)))
    federation.client(1)
    assert federation.dataset is load_once(CLEAN.source)
    assert torch.equal(federation.dataset.train.x, before)


def test_the_seed_decides_who_holds_what() -> None:
    assert fresh(CLEAN).parts[0].tolist() != fresh(replace(CLEAN, seed=1)).parts[0].tolist()


def test_corruption_moves_no_row() -> None:
    corrupted = build(replace(CLEAN, backdoor=BACKDOOR, wrong_labels=WRONG))
    for left, right in zip(build(CLEAN).parts, corrupted.parts, strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_backdoor_is_planted_at_its_clients_alone() -> None:
    clean, federation = build(CLEAN), build(replace(CLEAN, backdoor=BACKDOOR))
    assert [int(marks.sum()) for marks in federation.planted] == [0, 15, 0, 0]
    for client in (0, 2, 3):
        assert torch.equal(federation.client(client).rows.x, clean.client(client).rows.x)
        np.testing.assert_array_equal(federation.labels[client], clean.labels[client])
    rows, planted = federation.client(1).rows, federation.planted[1]
    assert (rows.y.numpy()[planted] == 3).all()
    np.testing.assert_array_equal(rows.y.numpy()[~planted], right_labels(federation, 1)[~planted])
    marked = (rows.x[:, 0, 5:7, 5:7] == 255).flatten(1).all(1).numpy()
    assert marked[planted].all()
    assert torch.equal(rows.x[~planted], clean.client(1).rows.x[~planted])
    assert not any(marks.any() for marks in federation.wrong)  # a planted target is no wrong label


def test_unlike_backdoors_are_each_where_they_belong() -> None:
    second = Backdoor((1, 2), share=0.2, patch=2, target=5, place="upper_left")
    federation = build(replace(CLEAN, backdoor=Backdoors([BACKDOOR, second])))
    alone = build(replace(CLEAN, backdoor=BACKDOOR))
    assert [[int((marks == n).sum()) for n in (1, 2)] for marks in federation.marks] == [
        [0, 0], [15, 6], [0, 6], [0, 0],
    ]  # fmt: skip
    np.testing.assert_array_equal(federation.marks[1] == 1, alone.planted[1])  # the first stays where it was
    for client in (1, 2):
        rows, marks = federation.client(client).rows, federation.marks[client]
        assert (rows.y.numpy()[marks == 2] == 5).all()
        corners = (rows.x[:, 0, 1:3, 1:3], rows.x[:, 0, 5:7, 5:7])
        upper, lower = ((corner == 255).flatten(1).all(1).numpy() for corner in corners)
        assert upper[marks == 2].all()
        assert lower[marks == 1].all()
        kept = right_labels(federation, client)[marks == 0]
        np.testing.assert_array_equal(rows.y.numpy()[marks == 0], kept)
    assert [trigger.target for trigger in federation.triggers] == [3, 5]


def test_an_unlike_backdoor_that_does_not_fit_is_named() -> None:
    second = Backdoor((1,), share=0.8, patch=2, target=5, place="upper_left")
    with pytest.raises(InvalidValue, match=r"^corruption\.backdoor\.each\.1\.share: expected at most the 15"):
        fresh(replace(CLEAN, backdoor=Backdoors([BACKDOOR, second])))


def test_wrong_labels_are_planted_at_their_clients_alone_and_leave_pixels() -> None:
    federation = build(replace(CLEAN, wrong_labels=WRONG))
    assert [int(marks.sum()) for marks in federation.wrong] == [0, 0, 15, 0]
    for client in range(4):
        held = federation.client(client).rows
        np.testing.assert_array_equal(
            held.y.numpy() != right_labels(federation, client), federation.wrong[client]
        )
        assert torch.equal(held.x, build(CLEAN).client(client).rows.x)
    assert federation.triggers == ()


def test_wrong_labels_at_nobody_in_particular_are_at_everybody_but_not_the_same() -> None:
    federation = build(replace(CLEAN, wrong_labels=WrongLabels(clients=None, share=0.2)))
    assert [int(marks.sum()) for marks in federation.wrong] == [6, 6, 6, 6]
    assert len({tuple(marks) for marks in federation.wrong}) > 1


def test_wrong_labels_at_one_client_twice_are_refused() -> None:
    # Served twice, the same offset would be added twice and could lead back to the right label.
    with pytest.raises(InvalidValue, match="clients: "):
        fresh(replace(CLEAN, wrong_labels=WrongLabels(clients=(2, 2), share=1.0)))


def test_where_both_meet_the_trigger_has_the_last_word_and_marks_stay() -> None:
    both = build(replace(CLEAN, backdoor=BACKDOOR, wrong_labels=replace(WRONG, clients=(1,))))
    assert (both.labels[1][both.planted[1]] == 3).all()
    assert both.wrong[1].sum() == 15
    changed = both.wrong[1] & ~both.planted[1]
    assert changed.any()
    assert (both.labels[1] != right_labels(both, 1))[changed].all()


def test_holdings_are_the_labels_that_clients_hold() -> None:
    federation = build(replace(CLEAN, wrong_labels=WRONG))
    held = federation.holdings
    assert held.num_classes == 10
    assert held.size(3) == 30
    assert held.labels is federation.labels
    assert held.wrong is federation.wrong
    assert held.known(None) == [0, 1, 2, 3]
    assert held.known([3, 1]) == [3, 1]


# ---- a client's view


@pytest.fixture
def data() -> ClientData:
    return build(CLEAN).client(0)


def test_labelled_rows_but_some(data: ClientData) -> None:
    assert len(data) == 30
    assert torch.equal(data.labelled().x, data.rows.x)
    kept = data.labelled((0, 29, 7))
    expected = [i for i in range(30) if i not in (0, 7, 29)]
    assert torch.equal(kept.x, data.rows.x[expected])
    assert torch.equal(kept.y, data.rows.y[expected])
    assert len(data.labelled(range(30))) == 0


def test_inputs_are_the_same_rows_without_labels(data: ClientData) -> None:
    assert torch.equal(data.inputs((3, 5)).x, data.labelled((3, 5)).x)
    assert torch.equal(data.inputs().x, data.rows.x)
    assert torch.equal(data.inputs_at((4, 2)).x, data.rows.x[[4, 2]])


def test_inputs_have_no_labels_to_read(data: ClientData) -> None:
    for rows in (data.inputs(), data.inputs((1,)), data.inputs_at((1,)), data.labelled().unlabelled()):
        assert type(rows) is Rows
        assert [name for name in dir(rows) if not name.startswith("_")] == ["at", "x"]
        with pytest.raises(AttributeError):
            rows.y  # noqa: B018


def test_no_positions_are_no_rows_of_the_right_shape(data: ClientData) -> None:
    nothing = data.inputs_at(())
    assert nothing.x.shape == (0, 1, 8, 8)
    assert nothing.x.dtype == torch.uint8
    assert data.inputs(range(30)).x.shape == (0, 1, 8, 8)


def test_an_empty_client_is_a_client() -> None:
    federation = build(replace(CLEAN, partition=Dirichlet(1e-3, 0), clients=40))
    empty = next(k for k, size in federation.sizes.items() if size == 0)
    assert federation.client(empty).inputs().x.shape == (0, 1, 8, 8)
    assert federation.client(empty).labelled().y.shape == (0,)


# ---- what does not fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"backdoor": replace(BACKDOOR, clients=(0, 4))},
            "corruption.backdoor.clients: expected client ids from 0 to 3, got 4",
        ),
        ({"backdoor": replace(BACKDOOR, clients=(-1,))}, "corruption.backdoor.clients: expected .*, got -1"),
        (
            {"backdoor": replace(BACKDOOR, patch=8)},
            "corruption.backdoor.patch: expected fewer than the 8 pixels",
        ),
        (
            {"backdoor": replace(BACKDOOR, target=10)},
            "corruption.backdoor.target: expected a class below 10, got 10",
        ),
        (
            {"wrong_labels": replace(WRONG, clients=(4,))},
            "corruption.wrong_labels.clients: expected client ids from 0 to 3, got 4",
        ),
        (
            {"wrong_labels": replace(WRONG, classes=(1, 12))},
            "corruption.wrong_labels.classes: expected .*, got 12",
        ),
        ({"clients": 121}, "clients: expected at most 120 clients for 120 rows, got 121"),
    ],
)
def test_what_does_not_fit_the_federation_is_refused_with_its_full_key(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidValue, match=f"^{message}"):
        build(replace(CLEAN, **change))


@pytest.mark.parametrize("clients", [0, -1, 2.0, "4", True])
def test_the_number_of_clients_must_be_a_count(clients: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^clients: expected a whole number of at least 1"):
        replace(CLEAN, clients=clients)
