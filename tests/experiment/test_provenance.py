"""A stage is taken up only where source, versions, device and data are the same; why not is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedlaf.core.cost import Cost
from fedlaf.data import Digits
from fedlaf.experiment.checkpoints import CheckpointStore, StageFingerprint
from fedlaf.experiment.provenance import data_digest, different
from fedlaf.method.contract import RoundRecord, StageResult

SAME = {"source code": "a", "versions of libraries": "b", "kind of device": "c", "data": "d"}
MADE_FROM = StageFingerprint("w", "c")


def note(
    tmp_path: Path, provenance: dict[str, str], fingerprint: StageFingerprint, failed: bool = False
) -> str:
    records = (RoundRecord("train", 1, (0,), {0: "why"} if failed else {}, {}, Cost()),)
    earlier = CheckpointStore(tmp_path, None, SAME)
    earlier.put("train", MADE_FROM, StageResult({"a": torch.zeros(1).numpy()}, Cost(), records), [])
    store = CheckpointStore(tmp_path / "later", tmp_path, provenance)
    found = store.get("train", fingerprint)
    assert (found is not None) == store.notes["train"].startswith("taken up from")
    return store.notes["train"]


def test_what_is_the_same_is_taken_up(tmp_path: Path) -> None:
    assert note(tmp_path, SAME, MADE_FROM).startswith("taken up from")


@pytest.mark.parametrize("name", SAME)
def test_what_changed_is_named(tmp_path: Path, name: str) -> None:
    assert note(tmp_path, {**SAME, name: "x"}, MADE_FROM) == f"computed again: changed since: {name}"


def test_other_values_and_failed_clients_are_named(tmp_path: Path) -> None:
    other = StageFingerprint("x", "c")
    assert note(tmp_path, SAME, other) == "computed again: the configuration has changed"
    assert note(tmp_path, SAME, MADE_FROM, failed=True) == "computed again: clients failed in it"


def test_the_digest_of_data_sees_one_pixel() -> None:
    one, other = Digits(train_rows=50).load(), Digits(train_rows=50).load()
    assert data_digest(one) == data_digest(other)
    other.train.x[7, 0, 3, 3] += 1
    data_digest.cache_clear()
    assert data_digest(one) != data_digest(other)
    assert different(SAME, {**SAME, "data": "x"}) == ["data"]
