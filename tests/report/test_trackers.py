"""Each tracker with its real library: what was told is read back with the library's own reader."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from support.runs import composed

import fedlaf
from fedlaf.core.cost import Cost
from fedlaf.core.errors import InvalidValue, RoundFailed
from fedlaf.experiment.plan import prepare
from fedlaf.method.contract import RoundRecord
from fedlaf.report import Metric, Point, TrackedRun, Tracker, Tracking, Watch
from fedlaf.report.metrics import of_round

pytestmark = pytest.mark.xdist_group("trackers")  # they share one run
SMALL = (
    "data=digits", "data.train_rows=150", "data.test_rows=60", "model=small_cnn", "clients=3",
    "corruption.backdoor.patch=2", "engine=inline", "train.rounds=2", "evaluation.curve_rows=10",
)  # fmt: skip

BLOCK = 32768


def needs(module: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install 'fedlaf[{extra}]'")


class Listening(Tracker):
    """Keeps all that it is told; raises when it has been told of `breaks` rounds."""

    def __init__(self, breaks: int | None = None) -> None:
        self.breaks, self.told, self.metrics = breaks, list[str](), list[Metric]()
        self.finals: Mapping[str, float] = {}
        self.files: Sequence[Path] = ()
        self.run: TrackedRun | None = None

    def start(self, run: TrackedRun) -> None:
        self.told.append("start")
        self.run = run

    def log(self, metrics: Sequence[Metric]) -> None:
        self.told.append("log")
        self.metrics += metrics
        if self.told.count("log") == self.breaks:
            raise ConnectionError("the server went away\nand more")

    def finish(self, finals: Mapping[str, float], files: Sequence[Path]) -> None:
        self.told.append("finish")
        self.finals, self.files = finals, files

    def stop(self, error: str) -> None:
        self.told.append(error)


class Played:
    """One run, and what a listening tracker was told of it."""

    def __init__(self, folder: Path) -> None:
        self.heard = Listening()
        self.report = fedlaf.run(*SMALL, folder=folder, tracker=self.heard)
        self.folder = folder

    @property
    def rounds(self) -> Iterator[list[Metric]]:
        for at in dict.fromkeys((m.stage, m.round) for m in self.heard.metrics):
            yield [m for m in self.heard.metrics if (m.stage, m.round) == at]

    def again(self, tracker: Tracker) -> None:
        """Tell another tracker the same."""
        assert self.heard.run is not None
        tracker.start(self.heard.run)
        for metrics in self.rounds:
            tracker.log(metrics)
        tracker.finish(self.heard.finals, self.heard.files)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Played(tmp_path_factory.mktemp("played"))


def curve(played: Played, stage: str, name: str) -> list[tuple[int, float]]:
    return [(m.round, m.value) for m in played.heard.metrics if (m.stage, m.name) == (stage, name)]


# ---- what a tracker is told, and metrics.jsonl


def test_a_tracker_is_told_of_each_round_and_of_the_end(played: Played) -> None:
    heard, report = played.heard, played.report
    assert heard.told == ["start", *["log"] * 6, "finish"]  # 2 rounds, LAF's 2, 2 of retraining
    assert heard.run is not None
    assert (heard.run.folder, heard.run.seed, heard.run.flat()["train.rounds"]) == (played.folder, 0, 2)
    assert set(heard.run.made_with) >= {"fedlaf", "torch", "source code", "data"}
    points = {(p.stage, p.round): p for p in report.curves}
    for stage in ("train", "retrain-1"):
        expected = [(n, points[stage, n].measures["accuracy_test"]) for n in (1, 2)]
        assert curve(played, stage, "accuracy_test") == expected
    ((number, _),) = curve(played, "request-1", "accuracy_test")
    assert number == 2  # the round that changes the model
    assert [n for n, _ in curve(played, "request-1", "passes")] == [1, 2]
    assert sum(v for _, v in curve(played, "train", "passes")) == report.training.passes
    assert len(curve(played, "train", "loss")) == 2
    for model in ("original", "unlearned", "retrained"):
        value = heard.finals[f"final/request-1/{model}/accuracy_test"]
        assert value == report.measure("accuracy_test", model)
    assert heard.finals["final/request-1/unlearned/passes"] == report.results[0].costs["unlearned"].passes
    assert {"report.html", "report.json", "metrics.jsonl"} <= {file.name for file in heard.files}
    assert all(file.is_file() for file in heard.files)


def test_metrics_jsonl_has_all_rounds_for_pandas_and_polars(played: Played) -> None:
    path = played.folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [Metric(**line) for line in lines] == played.heard.metrics
    assert {line["unit"] for line in lines if line["name"] == "accuracy_forget"} == {"%"}
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    assert len(pandas.read_json(path, lines=True)) == len(lines)
    assert polars.read_ndjson(path)["value"].to_list() == [line["value"] for line in lines]


def test_a_measure_without_a_value_is_null_in_the_file_and_of_nobody_elses_business() -> None:
    record = RoundRecord("fit", 1, (0, 1, 2), {1: "why"}, {"loss": 0.5}, Cost(gradient_passes=7))
    found = {m.name: m for m in of_round("train", 4, record, Point("train", 4, 7, {"accuracy_test": nan}))}
    assert found["loss"] == Metric("train", 4, "loss", 0.5, "")
    assert found["passes"] == Metric("train", 4, "passes", 7.0, "rows")
    assert found["clients"].value == 2
    assert isnan(found["accuracy_test"].value)


def test_stages_of_an_earlier_run_are_told_at_the_end(played: Played, tmp_path: Path) -> None:
    heard = Listening()
    fedlaf.run(*SMALL, f"resume={played.folder}", "forget=not", folder=tmp_path, tracker=heard)
    for stage in ("train", "retrain-1"):
        again = [(m.round, m.value) for m in heard.metrics if (m.stage, m.name) == (stage, "accuracy_test")]
        assert again == curve(played, stage, "accuracy_test")
    assert len({(m.stage, m.round, m.name) for m in heard.metrics}) == len(heard.metrics)  # each once


@pytest.mark.parametrize("breaks", [1, 3])
def test_a_tracker_that_fails_costs_a_line_and_nothing_else(
    breaks: int, played: Played, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = Listening(breaks)
    report = fedlaf.run(*SMALL, folder=tmp_path, tracker=broken)
    assert broken.told == ["start", *["log"] * breaks]
    line = "tracker Listening failed (ConnectionError: the server went away); the run goes on"
    assert capfd.readouterr().err.count(line) == 1
    assert report.results[0].models == played.report.results[0].models


def test_a_failed_run_is_told_as_such() -> None:
    heard, run = Listening(), TrackedRun(Path(), "laf", 0, "", {}, {})
    with pytest.raises(RoundFailed), Tracking(heard, run, Watch()):
        raise RoundFailed("client 3 failed")
    assert heard.told == ["start", "RoundFailed: client 3 failed"]


@pytest.mark.parametrize("option", ["tensorboard", "mlflow", "wandb"])
def test_a_library_that_is_not_there_is_one_line(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name == option else real(name))
    line = rf"tracker\._target_: expected {option} to be installed: pip install 'fedlaf\[{option}\]'"
    with pytest.raises(InvalidValue, match=line):
        prepare(composed(*SMALL, f"tracker={option}"))


# ---- the libraries


def test_tensorboard_has_curves_finals_and_texts(played: Played, tmp_path: Path) -> None:
    needs("tensorboard", "tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from fedlaf.report.trackers import TensorBoard

    played.again(TensorBoard(str(tmp_path)))
    events = EventAccumulator(str(tmp_path / played.folder.name))
    events.Reload()
    for name in ("accuracy_test", "loss", "bytes_up"):
        found = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
        assert found == [(n, pytest.approx(v)) for n, v in curve(played, "train", name)]
    assert {f"{stage}/accuracy_test" for stage in ("request-1", "retrain-1")} <= set(events.Tags()["scalars"])
    (final,) = events.Scalars("final/request-1/retrained/accuracy_test")
    assert final.value == pytest.approx(played.report.measure("accuracy_test", "retrained"))

    def text(tag: str) -> str:
        (event,) = events.Tensors(f"{tag}/text_summary")
        return str(event.tensor_proto.string_val[0].decode())

    assert '"rounds": 2' in text("configuration")
    assert "source code" in text("run")
    assert "accuracy, test rows" in text("report")
    assert str(played.folder / "report.html") in text("report")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy
def test_mlflow_has_parameters_curves_tags_and_artefacts(played: Played, tmp_path: Path) -> None:
    needs("mlflow", "mlflow")
    from mlflow import MlflowClient

    from fedlaf.report.trackers import MLflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    client.create_experiment("mine", artifact_location=str(tmp_path / "artefacts"))
    played.again(MLflow(uri, "mine"))
    failing = MLflow(uri, "mine")
    assert played.heard.run is not None
    failing.start(played.heard.run)
    failing.stop("RoundFailed: why")
    place = client.get_experiment_by_name("mine").experiment_id
    failed, run = client.search_runs([place], order_by=["attributes.status"])
    assert (run.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert failed.data.tags["error"] == "RoundFailed: why"
    assert run.data.params["train.rounds"] == "2"
    assert run.data.tags["seed"] == "0"
    assert run.data.tags["source code"] == played.heard.run.made_with["source code"]
    history = client.get_metric_history(run.info.run_id, "train/accuracy_test")
    assert [(m.step, m.value) for m in history] == curve(played, "train", "accuracy_test")
    value = run.data.metrics["final/request-1/unlearned/accuracy_test"]
    assert value == played.report.measure("accuracy_test", "unlearned")
    kept = {file.path: file.file_size for file in client.list_artifacts(run.info.run_id)}
    assert kept["report.html"] == (played.folder / "report.html").stat().st_size
    assert "report.json" in kept


def test_wandb_offline_has_curves_a_summary_and_an_artefact(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("wandb", "wandb")
    from fedlaf.report.trackers import WeightsAndBiases

    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    played.again(WeightsAndBiases("mine", folder=str(tmp_path)))
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    for _ in range(100):  # a process of wandb's own writes it
        records = list(read(path))
        if any(r.HasField("exit") for r in records):
            break
        sleep(0.2)
    history = [values(r.history.item) for r in records if r.HasField("history")]
    found = [(h["train/round"], h["train/accuracy_test"]) for h in history if "train/round" in h]
    assert found == curve(played, "train", "accuracy_test")
    assert {int(h["request-1/round"]) for h in history if "request-1/round" in h} == {1, 2}
    (run,) = [r.run for r in records if r.HasField("run")][:1]
    assert run.project == "mine"
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["train"]["rounds"] == 2
    summary: dict[str, Any] = {}
    for r in records:
        summary |= values(r.summary.update) if r.HasField("summary") else {}
    value = summary["final/request-1/unlearned/accuracy_test"]
    assert value == played.report.measure("accuracy_test", "unlearned")
    kept = [entry.path for r in records if r.HasField("artifact") for entry in r.artifact.manifest.contents]
    assert {"report.html", "report.json"} <= set(kept)


def read(path: Path) -> Iterator[Any]:
    """The records of an offline run as wandb's own messages.

    They lie in a log of LevelDB's format, of which wandb has no reader in Python any more: blocks of 32 KiB
    with chunks of checksum, length and kind (whole, first, middle, last), after a header of 7 bytes.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole, at = whole + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):
            record = Record()
            try:
                record.ParseFromString(whole)
            except DecodeError:  # the last one is still being written
                return
            yield record
            whole = b""


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
