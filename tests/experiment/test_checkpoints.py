"""Finished stages on disk: what is put comes back whole, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.federations import same_bits

from fedlaf.core.cost import Cost
from fedlaf.evaluation import KINDS, Predictions
from fedlaf.experiment import checkpoints
from fedlaf.experiment.checkpoints import CheckpointStore, StageFingerprint
from fedlaf.method.contract import RoundRecord, StageResult
from fedlaf.report import Point

FINGERPRINT = StageFingerprint("what the weights depend on", "what the curve does")
WEIGHTS = {
    "z.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.num_batches_tracked": np.array(7, dtype=np.int64),
    "m.bias": np.array([0.1, -np.pi, 1e-30]),
    "empty": np.empty((0, 4), np.float32),
}
RECORDS = (
    RoundRecord("train", 1, (0, 2, 5), {}, {"loss": 0.25}, Cost(rounds=1)),
    RoundRecord("train", 2, (1,), {}, {}, Cost(gradient_passes=40, client_seconds=0.1, bytes_up=1e9)),
)
RESULT = StageResult(WEIGHTS, Cost(gradient_passes=40, messages=6, rounds=2), RECORDS)
CURVE = [Point("train", 1, 20.0, {"accuracy_test": 12.5}), Point("train", 2, 40.0, {"accuracy_test": 1 / 3})]


def saved(folder: Path) -> CheckpointStore:
    """A store that finds what `folder`'s run left."""
    CheckpointStore(folder, None).put("train", FINGERPRINT, RESULT, CURVE)
    return CheckpointStore(folder.parent / "later", folder)


def test_what_was_put_comes_back_whole(tmp_path: Path) -> None:
    found = saved(tmp_path / "a").get("train", FINGERPRINT)
    assert found is not None
    result, curve = found
    assert same_bits(result.weights, WEIGHTS)  # the order of names too
    assert all(array.shape == WEIGHTS[name].shape for name, array in result.weights.items())
    assert result.cost == RESULT.cost
    assert result.records == RECORDS
    assert curve == CURVE


def test_another_fingerprint_or_name_finds_nothing(tmp_path: Path) -> None:
    store = saved(tmp_path / "a")
    assert store.get("train", StageFingerprint("other", FINGERPRINT.curve)) is None
    assert store.get("request-1", FINGERPRINT) is None


def test_a_curve_that_was_measured_on_other_rows_is_left_out(tmp_path: Path) -> None:
    found = saved(tmp_path / "a").get("train", StageFingerprint(FINGERPRINT.weights, "other"))
    assert found is not None
    assert found[1] == []
    assert same_bits(found[0].weights, WEIGHTS)


def test_a_half_written_stage_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = saved(tmp_path / "a")
    (tmp_path / "a" / "stages" / "train.json").unlink()
    assert (tmp_path / "a" / "stages" / "train.safetensors").is_file()
    assert store.get("train", FINGERPRINT) is None

    def full(*_: object, **__: object) -> int:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="no space"):
            saved(tmp_path / "a")
    assert store.get("train", FINGERPRINT) is None


@pytest.mark.parametrize("at", ["train.safetensors.part", "train.curve.safetensors.part"])
def test_what_cuts_a_stage_short_leaves_the_one_that_was_there(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later, real = saved(tmp_path / "a"), checkpoints.fill
    traced = [replace(point, represented=np.ones((2, 3), np.float16)) for point in CURVE]

    def cut_short(draft: Path, held: dict[str, np.ndarray]) -> None:
        real(draft, held)
        if draft.name == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "fill", cut_short)
    other = replace(RESULT, weights={k: v + 1 for k, v in WEIGHTS.items()})
    with pytest.raises(KeyboardInterrupt):
        CheckpointStore(tmp_path / "a", None).put("train", FINGERPRINT, other, traced)
    found = later.get("train", FINGERPRINT)
    assert found is not None
    assert same_bits(found[0].weights, WEIGHTS)
    assert {path.name for path in (tmp_path / "a" / "stages").iterdir()} == {
        "train.json",
        "train.safetensors",
    }


def test_arrays_that_lie_otherwise_in_memory_come_back_the_same(tmp_path: Path) -> None:
    square = np.arange(12, dtype=np.float32).reshape(3, 4)
    lying = {"t": square.T, "half": square[:, ::2], "scalar": np.float32(3)}
    CheckpointStore(tmp_path, None).put("train", FINGERPRINT, StageResult(lying, Cost(), ()), [])
    found = CheckpointStore(tmp_path / "later", tmp_path).get("train", FINGERPRINT)
    assert found is not None
    assert same_bits(found[0].weights, {k: np.array(v) for k, v in lying.items()})
    assert found[0].weights["scalar"].shape == ()


def test_without_an_earlier_run_there_is_nothing(tmp_path: Path) -> None:
    saved(tmp_path / "a")
    assert CheckpointStore(tmp_path / "a", None).get("train", FINGERPRINT) is None
    assert CheckpointStore(tmp_path / "a", tmp_path / "nowhere").get("train", FINGERPRINT) is None


def test_the_last_to_be_put_is_found_and_an_earlier_run_is_never_changed(tmp_path: Path) -> None:
    later = saved(tmp_path / "a")
    before = {p.name: p.read_bytes() for p in (tmp_path / "a" / "stages").iterdir()}
    assert sorted(before) == ["train.json", "train.safetensors"]
    one = {"w": np.ones(1, np.float32)}
    for weights in (WEIGHTS, one):
        later.put("train", StageFingerprint("new", ""), StageResult(weights, Cost(), ()), [])
    assert {p.name: p.read_bytes() for p in (tmp_path / "a" / "stages").iterdir()} == before
    found = CheckpointStore(tmp_path / "c", tmp_path / "later").get("train", StageFingerprint("new", ""))
    assert found is not None
    assert same_bits(found[0].weights, one)


# ---- predictions


def rows(seed: int, count: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).random((count, 3), dtype=np.float32)
    return (drawn / drawn.sum(1, keepdims=True)).astype(np.float64)


SEEN = Predictions(rows(0, 5), rows(1, 2), rows(2, 4))
PLANTED = replace(SEEN, triggered=rows(3, 3))


def must_not() -> Predictions:
    raise AssertionError("predicted again")


@pytest.mark.parametrize("seen", [SEEN, PLANTED], ids=["without a trigger", "with one"])
def test_predictions_are_taken_up_bit_for_bit(tmp_path: Path, seen: Predictions) -> None:
    first = CheckpointStore(tmp_path / "a", None).predictions("request-1-original", "x", lambda: seen)
    later = CheckpointStore(tmp_path / "b", tmp_path / "a").predictions("request-1-original", "x", must_not)
    last = CheckpointStore(tmp_path / "c", tmp_path / "b").predictions("request-1-original", "x", must_not)
    for found in (first, later, last):
        for kind in KINDS:
            expected = getattr(seen, kind)
            assert expected is None or np.array_equal(
                getattr(found, kind), expected.astype(np.float32).astype(np.float64)
            )
            assert (expected is None) == (getattr(found, kind) is None)


@pytest.mark.parametrize(("name", "fingerprint"), [("request-1-original", "y"), ("request-2-original", "x")])
def test_predictions_of_other_values_are_made_anew(tmp_path: Path, name: str, fingerprint: str) -> None:
    CheckpointStore(tmp_path / "a", None).predictions("request-1-original", "x", lambda: SEEN)
    found = CheckpointStore(tmp_path / "b", tmp_path / "a").predictions(name, fingerprint, lambda: PLANTED)
    assert found is PLANTED
