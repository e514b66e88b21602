"""What training keeps: exactly what is asked for, on disk, and seen as it was asked for."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlaf.core.errors import InvalidValue
from fedlaf.core.types import Weights
from fedlaf.method.history_writer import HistoryWriter
from fedlaf.method.update_history import KINDS, HistoryHandle, HistorySpec, UpdateHistory, contaminated

history_spec = st.builds(
    HistorySpec, every=st.integers(0, 12), share=st.sampled_from([0.25, 0.5, 1.0]), last=st.booleans(),
    magnitudes=st.booleans(), models=st.booleans(),
)  # fmt: skip


def model(*numbers: float) -> Weights:
    return {"w": np.array(numbers, np.float32), "seen": np.array(len(numbers), np.int64)}


def trained(
    folder: Path, keep: HistorySpec, rounds: int = 4, clients: int = 3, first: int = 1
) -> UpdateHistory:
    """In round t, client k moves from (0, 0) by (t, -k)."""
    history_writer = HistoryWriter(HistoryHandle(keep, folder))
    for t in range(first, first + rounds):
        for k in range(clients):
            history_writer.take(t, k, model(0, 0), model(t, -k), rows=10 * (k + 1))
        history_writer.end(t)
    return UpdateHistory([folder], keep)


def last_of(history: UpdateHistory, client: int) -> list[float]:
    found = history.last(client)
    assert found is not None
    return found["w"].tolist()


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.safetensors"))


@given(history_spec, history_spec)
def test_what_serves_two_covers_both_and_itself(one: HistorySpec, other: HistorySpec) -> None:
    both = one.joined(other)
    assert both.covers(one)
    assert both.covers(other)
    assert both.covers(both)
    assert both == other.joined(one)
    assert one.covers(HistorySpec())
    assert HistorySpec.of(KINDS).covers(both)


@given(history_spec, history_spec, st.integers(1, 40))
def test_what_covers_has_every_round(one: HistorySpec, other: HistorySpec, round_: int) -> None:
    if one.covers(other) and other.at(round_):
        assert one.at(round_)


def test_nothing_covers_what_it_lacks() -> None:
    lacking = [
        ({"every": 2}, {"every": 3}), ({"every": 2}, {"every": 1}), ({}, {"every": 1}),
        ({"every": 1}, {"last": True}), ({"every": 1, "last": True}, {"magnitudes": True}),
        ({"every": 1, "share": 0.5}, {"every": 1}),
    ]  # fmt: skip
    for one, other in lacking:
        assert not HistorySpec(**one).covers(HistorySpec(**other)), (one, other)
    assert not HistorySpec()
    assert HistorySpec(every=5)
    assert HistorySpec(last=True)
    with pytest.raises(
        InvalidValue, match=r"history: expected auto, or a list of updates, last, magnitudes, models"
    ):
        HistorySpec.of(["updates", "gradients"])


@pytest.mark.parametrize("kinds", [*product([0, 1], repeat=4)])
def test_exactly_what_is_asked_for_is_on_disk(kinds: tuple[int, int, int, int], tmp_path: Path) -> None:
    updates, last, magnitudes, models = kinds
    trained(tmp_path / "r", HistorySpec(updates, 1.0, bool(last), bool(magnitudes), bool(models)))
    names = [f"client-000{k}.safetensors" for k in range(3)]
    expected = [f"updates/round-000{t}/{name}" for t in range(1, 5) for name in names] * updates
    expected += [f"last/{name}" for name in names] * last
    expected += [f"magnitudes/{name}" for name in names] * magnitudes
    expected += [f"models/round-000{t}/model.safetensors" for t in range(1, 5)] * models
    assert files(tmp_path / "r") == sorted(expected)


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    history = trained(tmp_path / "r", HistorySpec(every=2, last=True, magnitudes=True))
    assert history.rounds == [1, 3]
    assert history.rows(3) == {0: 10, 1: 20, 2: 30}
    assert history.update(3, 2)["w"].tolist() == [3, -2]
    assert history.update(3, 2)["w"].dtype == np.float32
    assert {k: history.update(1, k)["w"].tolist() for k in history.clients(1)} == {
        0: [1, 0],
        1: [1, -1],
        2: [1, -2],
    }
    assert last_of(history, 1) == [4, -1]
    # Absolute values add up over all rounds, kept ones and others: 1 + 2 + 3 + 4 and 4 k.
    assert {k: m["w"].tolist() for k, m in history.magnitudes()} == {0: [10, 0], 1: [10, 4], 2: [10, 8]}
    # Two rounds of three clients, three models and three sums, of two floats and a count each.
    assert history.nbytes == (6 + 3 + 3) * (2 * 4 + 8)
    assert history.last(7) is None


def test_only_the_largest_updates_of_a_round_stay(tmp_path: Path) -> None:
    small = trained(tmp_path / "small", HistorySpec(every=1, share=0.5))
    assert [small.clients(t) for t in small.rounds] == [[1, 2]] * 4  # half of three, rounded up
    assert len(files(tmp_path / "small")) == 8
    assert small.rows(1) == {0: 10, 1: 20, 2: 30}  # who took part is known of all


def test_histories_that_hold_more_look_the_same(tmp_path: Path) -> None:
    """One training for several methods: each sees, and pays for, what its own would have kept."""
    keep = HistorySpec(every=2, share=0.5)
    alone = trained(tmp_path / "alone", keep)
    trained(tmp_path / "all", HistorySpec.of(["updates", "last", "magnitudes"]))
    seen = UpdateHistory([tmp_path / "all"], keep)
    assert seen.rounds == alone.rounds
    for t in seen.rounds:
        assert [(k, seen.update(t, k)["w"].tolist()) for k in seen.clients(t)] == [
            (k, alone.update(t, k)["w"].tolist()) for k in alone.clients(t)
        ]
    assert seen.nbytes == alone.nbytes == 2 * 2 * (2 * 4 + 8)


def test_training_that_goes_on_is_one_history_without_those_who_left(tmp_path: Path) -> None:
    keep = HistorySpec(every=1, last=True, magnitudes=True)
    trained(tmp_path / "train", keep, rounds=2)
    trained(tmp_path / "train-from-2", keep, rounds=1, clients=2, first=3)
    history = UpdateHistory([tmp_path / "train", tmp_path / "train-from-2"], keep, frozenset({0}))
    assert history.rounds == [1, 2, 3]
    assert [history.clients(t) for t in history.rounds] == [[1, 2], [1, 2], [1]]
    assert list(history.rows(1)) == [1, 2]
    assert last_of(history, 1) == [3, -1]
    assert last_of(history, 2) == [2, -2]
    assert {k: m["w"].tolist() for k, m in history.magnitudes()} == {1: [6, 3], 2: [3, 4]}
    assert history.nbytes == (5 + 2 + 2) * (2 * 4 + 8)


def test_an_earlier_attempt_leaves_nothing(tmp_path: Path) -> None:
    trained(tmp_path / "r", HistorySpec(every=1, last=True))
    trained(tmp_path / "r", HistorySpec(every=4))
    assert files(tmp_path / "r") == [f"updates/round-0001/client-000{k}.safetensors" for k in range(3)]


# ---- models that rounds began with


def taking_part(folder: Path, rounds: list[list[int]], first: int = 1) -> UpdateHistory:
    """Round t begins with the model (t, 0)."""
    keep = HistorySpec(models=True)
    writer = HistoryWriter(HistoryHandle(keep, folder))
    for t, clients in enumerate(rounds, first):
        for k in clients:
            writer.take(t, k, model(t, 0), model(9, 9), rows=10)
        writer.end(t)
    return UpdateHistory([folder], keep)


@pytest.mark.parametrize(
    ("clients", "first"), [([0], 2), ([1], 1), ([2], 3), ([0, 2], 2), ([3], 4), ([7], 5), ([], 5)]
)
def test_the_model_before_the_first_use_of_clients(clients: list[int], first: int, tmp_path: Path) -> None:
    history = taking_part(tmp_path, [[1], [0, 1], [0, 2], [3]])
    round_, before = history.before_use(clients, 4)
    assert round_ == first
    assert (before is None) if first == 5 else (before is not None and before["w"].tolist() == [first, 0])
    assert history.nbytes == 4 * (2 * 4 + 8)


def test_those_who_have_withdrawn_count_and_models_that_are_gone_end_the_search(tmp_path: Path) -> None:
    taking_part(tmp_path / "train", [[1], [0, 1]])
    taking_part(tmp_path / "train-from-2", [[2], [3]], first=3)
    folders, keep = [tmp_path / "train", tmp_path / "train-from-2"], HistorySpec(models=True)
    assert UpdateHistory(folders, keep).before_use([3], 4)[0] == 4
    assert UpdateHistory(folders, keep, frozenset({0})).before_use([3], 4)[0] == 2
    assert contaminated(folders, [3]) == contaminated(folders[:1], [0]) == []
    assert [path.parent.name for path in contaminated(folders, [0])] == ["round-0003", "round-0004"]
    for path in contaminated(folders, [1]):
        path.unlink()
    round_, before = UpdateHistory(folders, keep).before_use([3], 4)
    assert round_ == 1
    assert before is not None
    assert before["w"].tolist() == [1, 0]
    with pytest.raises(LookupError, match="began with is not in its history"):
        UpdateHistory(folders[1:], keep).before_use([3], 4)
