"""Finished stages: what is saved comes back, and a run takes up exactly what it would make again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from conftest import same_bits
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from safetensors.numpy import load_file

from fedlaf import config as configuration
from fedlaf import pipeline, stages
from fedlaf.client import training
from fedlaf.cost import Cost
from fedlaf.plan import prepare
from fedlaf.report import Point, Report
from fedlaf.stage import Outcome, RoundRecord
from fedlaf.stages import MadeFrom, Shelf

# ---- the shelf

MADE_FROM = MadeFrom("what the weights depend on", "what the curve does")
WEIGHTS = {
    "z.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.num_batches_tracked": np.array(7, dtype=np.int64),
    "m.bias": np.array([0.1, -np.pi, 1e-30]),
    "empty": np.empty((0, 4), np.float32),
}
RECORDS = (
    RoundRecord("train", 1, (0, 2, 5), {2: "no answer in time"}, {"loss": 0.25}, Cost(rounds=1)),
    RoundRecord("train", 2, (1,), {}, {}, Cost(gradient_passes=40, client_seconds=0.1, bytes_up=1e9)),
)
OUTCOME = Outcome(WEIGHTS, Cost(gradient_passes=40, messages=6, rounds=2), RECORDS)
CURVE = [Point("train", 1, 20.0, {"accuracy_test": 12.5}), Point("train", 2, 40.0, {"accuracy_test": 1 / 3})]


def shelved(folder: Path) -> Shelf:
    """A shelf that finds what `folder`'s run left."""
    Shelf(folder, None).put("train", MADE_FROM, OUTCOME, CURVE)
    return Shelf(folder.parent / "later", folder)


def test_what_was_put_comes_back_whole(tmp_path: Path) -> None:
    found = shelved(tmp_path / "a").get("train", MADE_FROM)
    assert found is not None
    outcome, curve = found
    assert same_bits(outcome.weights, WEIGHTS)  # the order of names too
    assert all(array.shape == WEIGHTS[name].shape for name, array in outcome.weights.items())
    assert outcome.cost == OUTCOME.cost
    assert outcome.records == RECORDS
    assert curve == CURVE


def test_another_fingerprint_or_name_finds_nothing(tmp_path: Path) -> None:
    shelf = shelved(tmp_path / "a")
    assert shelf.get("train", MadeFrom("other", MADE_FROM.curve)) is None
    assert shelf.get("request-1", MADE_FROM) is None


def test_a_curve_that_was_measured_on_other_rows_is_left_out(tmp_path: Path) -> None:
    found = shelved(tmp_path / "a").get("train", MadeFrom(MADE_FROM.weights, "other"))
    assert found is not None
    assert found[1] == []
    assert same_bits(found[0].weights, WEIGHTS)


def test_a_half_written_stage_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = shelved(tmp_path / "a")
    (tmp_path / "a" / "stages" / "train.json").unlink()
    assert (tmp_path / "a" / "stages" / "train.safetensors").is_file()
    assert shelf.get("train", MADE_FROM) is None

    def full(*_: object, **__: object) -> int:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="no space"):
            shelved(tmp_path / "a")
    assert shelf.get("train", MADE_FROM) is None


def test_an_interruption_leaves_no_old_record_beside_new_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = shelved(tmp_path / "a")

    def cut_short(held: dict[str, np.ndarray], path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "save_file", cut_short)
    with pytest.raises(KeyboardInterrupt):
        Shelf(tmp_path / "a", None).put("train", MADE_FROM, OUTCOME, CURVE)
    assert later.get("train", MADE_FROM) is None


def test_arrays_that_lie_otherwise_in_memory_come_back_the_same(tmp_path: Path) -> None:
    square = np.arange(12, dtype=np.float32).reshape(3, 4)
    lying = {"t": square.T, "half": square[:, ::2], "scalar": np.float32(3)}
    Shelf(tmp_path, None).put("train", MADE_FROM, Outcome(lying, Cost(), ()), [])
    found = Shelf(tmp_path / "later", tmp_path).get("train", MADE_FROM)
    assert found is not None
    assert same_bits(found[0].weights, {k: np.array(v) for k, v in lying.items()})
    assert found[0].weights["scalar"].shape == ()


def test_without_an_earlier_run_there_is_nothing(tmp_path: Path) -> None:
    shelved(tmp_path / "a")
    assert Shelf(tmp_path / "a", None).get("train", MADE_FROM) is None
    assert Shelf(tmp_path / "a", tmp_path / "nowhere").get("train", MADE_FROM) is None


def test_the_last_to_be_put_is_found_and_an_earlier_run_is_never_changed(tmp_path: Path) -> None:
    later = shelved(tmp_path / "a")
    before = {p.name: p.read_bytes() for p in (tmp_path / "a" / "stages").iterdir()}
    assert sorted(before) == ["train.json", "train.safetensors"]
    one = {"w": np.ones(1, np.float32)}
    for weights in (WEIGHTS, one):
        later.put("train", MadeFrom("new", ""), Outcome(weights, Cost(), ()), [])
    assert {p.name: p.read_bytes() for p in (tmp_path / "a" / "stages").iterdir()} == before
    found = Shelf(tmp_path / "c", tmp_path / "later").get("train", MadeFrom("new", ""))
    assert found is not None
    assert same_bits(found[0].weights, one)


# ---- what a run takes up

BASE = ("data=digits", "data.train_rows=200", "data.test_rows=50", "model=small_cnn", "clients=4",
        "corruption.backdoor.patch=2", "engine=inline", "train.rounds=2", "evaluation.curve_rows=20",
        "forget.represent_rounds=1", "forget.align_rounds=1", "forget.align.steps=1",
        "forget.lead_steps=1", "forget.aim.strength=0.5", "forget.aim.against=0.5")  # fmt: skip


@dataclass
class Watched:
    """Which stages were run, not taken up."""

    names: list[str] = field(default_factory=list)

    def stage(self, name: str, rounds: int) -> None:
        self.names.append(name)

    def advance(self, name: str) -> None:
        pass


def told(folder: Path, *overrides: str) -> tuple[list[str], Report]:
    """The stages that a run had to run itself, and its report."""
    configuration.register()
    GlobalHydra.instance().clear()
    with initialize_config_module("conf", version_base="1.3"):
        plan = prepare(compose("config", overrides=[*BASE, *overrides]))
    watch = Watched()
    report = pipeline.run(plan, folder, watch)
    return watch.names, report


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("first")
    names, report = told(folder)
    assert names == ["train", "request-1", "retrain-1"]
    return folder, report


def weights(folder: Path, name: str) -> dict[str, np.ndarray]:
    return dict(sorted(load_file(folder / "stages" / f"{name}.safetensors").items()))


def points(report: Report, stage: str) -> list[Point]:
    return [point for point in report.curves if point.stage == stage]


ALL_OF_CLIENT_0 = "{_target_: fedlaf.demand.RemoveSamples, clients: [0], share: 1.0}"
ALL = ["train", "request-1", "retrain-1"]


@pytest.mark.parametrize(
    ("overrides", "run_again"),
    [
        ([], []),
        (["forget.align_rounds=2"], ["request-1"]),
        (["forget.aim.strength=0"], ["request-1"]),
        (["evaluation.curve_rows=10"], []),
        (["evaluation.asr=split"], []),
        (["request=remove_samples"], ["request-1", "retrain-1"]),
        (["request.clients=[1]"], ["request-1", "retrain-1"]),
        ([f"requests=[{ALL_OF_CLIENT_0}]"], ["request-1"]),  # written otherwise, the same rows go
        (["request.round=1"], ALL),  # training stops sooner
        (["train.fit.lr=1e-3"], ALL),
        (["seed=1"], ALL),
        (["corruption.backdoor.share=0.25"], ALL),
        (["model.dims=16"], ALL),
    ],
    ids=str,
)
def test_a_run_takes_up_what_it_would_make_again(
    overrides: list[str], run_again: list[str], first: tuple[Path, Report], tmp_path: Path
) -> None:
    folder, _ = first
    names, report = told(tmp_path, f"resume={folder}", *overrides)
    assert [name for name in names if name in ALL] == run_again
    for name in set(ALL) - set(run_again):
        assert same_bits(weights(tmp_path, name), weights(folder, name))
    assert report.served[0].models["original"].measures


def test_what_is_taken_up_is_what_the_run_would_have_made(
    first: tuple[Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another request: the same bits as without `resume`, without training again."""
    fits = 0
    real = training.fit

    def counted(*given: object) -> object:
        nonlocal fits
        fits += 1
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "fit", counted)
    told(tmp_path / "alone", "request=remove_samples")
    assert fits == 2 * 4 + 2 * 4
    fits = 0
    _, resumed = told(tmp_path / "resumed", "request=remove_samples", f"resume={first[0]}")
    assert fits == 2 * 4  # the retraining's
    for name in ALL:
        assert same_bits(weights(tmp_path / "alone", name), weights(tmp_path / "resumed", name))
    assert resumed.training == first[1].training  # what was spent stays in the account


def test_a_curve_is_kept_only_where_its_rows_are_the_same(first: tuple[Path, Report], tmp_path: Path) -> None:
    folder, before = first
    assert all(len(points(before, name)) == 2 for name in ("train", "retrain-1"))
    _, same = told(tmp_path / "a", f"resume={folder}", "forget.align_rounds=2")
    for name in ("train", "retrain-1"):
        assert points(same, name) == points(before, name)
    _, other = told(tmp_path / "b", f"resume={folder}", "request.clients=[1]")
    assert points(other, "train") == []
    assert len(points(other, "retrain-1")) == 2
    _, fewer = told(tmp_path / "c", f"resume={folder}", "evaluation.curve_rows=10")
    assert points(fewer, "train") == points(fewer, "retrain-1") == []


def test_a_run_that_took_up_stages_can_be_taken_up_itself(first: tuple[Path, Report], tmp_path: Path) -> None:
    told(tmp_path / "second", f"resume={first[0]}", "request.clients=[1]")
    names, _ = told(tmp_path / "third", f"resume={tmp_path / 'second'}", "request.clients=[1]")
    assert names == []
    saved = json.loads((tmp_path / "third" / "stages" / "train.json").read_text())
    assert saved["names"][0] == "extractor.0.weight"
