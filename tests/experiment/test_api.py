"""From Python: the command line's runs, errors and numbers; objects for sections; nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import ray
import torch
from hydra.core.global_hydra import GlobalHydra

import fedlaf
from fedlaf.core.errors import InvalidValue, RoundFailed
from fedlaf.core.types import Weights
from fedlaf.data import Digits
from fedlaf.data.dataset import Dataset
from fedlaf.evaluation import Catalogue, Group, Measure, MeasuredModel, MeasureFunction, Sense
from fedlaf.experiment.objects import described
from fedlaf.models import SmallCnn
from fedlaf.report.files import document
from fedlaf.report.report import as_json
from fedlaf.strategies.fine_tune import FineTune

pytestmark = pytest.mark.xdist_group("ray")  # one test starts a Ray; all share one run

SMALL = (
    "data=digits", "data.train_rows=150", "data.test_rows=60", "model=small_cnn", "clients=3",
    "corruption.backdoor.patch=2", "engine=inline", "train.rounds=1", "forget=fine_tune", "forget.rounds=1",
    "evaluation.curve_rows=10",
)  # fmt: skip
STAGES = {"original": "train", "unlearned": "request-1", "retrained": "retrain-1"}


def same(one: Weights, other: Weights) -> bool:
    return list(one) == list(other) and all(np.array_equal(one[k], other[k]) for k in one)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> fedlaf.Report:
    return fedlaf.run(*SMALL, folder=tmp_path_factory.mktemp("run"))


def test_twice_in_one_process_gives_equal_bits_and_leaves_the_process_as_it_was(
    report: fedlaf.Report, tmp_path: Path
) -> None:
    torch.set_num_threads(2)
    here, environment = os.getcwd(), dict(os.environ)
    again = fedlaf.run(*SMALL, folder=str(tmp_path / "again"))
    assert (os.getcwd(), dict(os.environ)) == (here, environment)
    assert not GlobalHydra.instance().is_initialized()
    assert torch.get_num_threads() == 2
    for model, stage in STAGES.items():
        assert same(report.weights(model), again.weights(model))
        assert (tmp_path / "again" / "stages" / f"{stage}.safetensors").is_file()
    assert not same(report.weights("original"), report.weights("unlearned"))
    assert as_json(again)["curves"] == as_json(report)["curves"]
    assert again.measure("accuracy_test") == report.measure("accuracy_test", "unlearned", request=0)


def test_the_command_line_and_python_give_the_same(
    report: fedlaf.Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedlaf import __main__ as entry

    monkeypatch.setattr(sys, "argv", ["fedlaf", *SMALL, f"hydra.run.dir={tmp_path / 'line'}"])
    entry.main()
    loaded = fedlaf.load(tmp_path / "line")
    assert loaded.config == report.config
    assert loaded.method == report.method == "fine_tune"
    assert all(same(loaded.weights(model), report.weights(model)) for model in STAGES)


def test_what_is_loaded_is_what_was_run(report: fedlaf.Report) -> None:
    assert report.folder is not None
    loaded = fedlaf.load(report.folder)
    assert json.dumps(as_json(loaded)) == json.dumps(as_json(report))
    assert document(loaded) == document(report)
    assert same(loaded.weights(), report.weights())
    assert loaded.to_records() == report.to_records()


def test_records_are_flat_and_say_what_the_tables_say(report: fedlaf.Report) -> None:
    records = report.to_records()
    assert len({tuple(record) for record in records}) == 1  # the same keys in the same order
    assert all(v is None or isinstance(v, (str, int, float)) for record in records for v in record.values())
    by = {(r["model"], r["kind"], r["name"]): r for r in records}
    assert len(by) == len(records)
    test = by["unlearned", "measure", "accuracy_test"]
    apart = abs(report.measure("accuracy_test") - report.measure("accuracy_test", "retrained"))
    assert test["value"] == report.measure("accuracy_test")
    assert test["distance"] == pytest.approx(apart)
    assert (test["unit"], test["verdict"], test["limit"]) == ("%", "no reference seeds", None)
    assert by["retrained", "cost", "rounds"]["value"] == 1
    assert by["retrained", "measure", "accuracy_test"]["distance"] is None


def test_pandas_reads_the_records(report: fedlaf.Report) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(report.to_records()).pivot_table("value", ["model"], ["name"])
    assert table.loc["unlearned", "accuracy_test"] == report.measure("accuracy_test")


# ---- objects


@dataclass(frozen=True)
class Halved:
    """The digits, every second row: a dataset that no YAML names."""

    every: int = 2

    def prepare(self) -> None:
        """Nothing to fetch."""

    def load(self) -> Dataset:
        whole = Digits(train_rows=300, test_rows=60).load()
        return replace(whole, train=whole.train.at(torch.arange(0, 300, self.every)))


class Right(MeasureFunction):
    """Forget rows that are right, by hand."""

    catalogue: ClassVar[Catalogue] = {"right": Measure("right", Group.ACCURACY, Sense.TRACE, unit="rows")}

    def measure(self, found: object, splits: object, model: MeasuredModel) -> Mapping[str, float]:
        return {"right": float((found.forget.argmax(1) == splits.forget.y.numpy()).sum())}  # type: ignore[attr-defined]


def test_objects_stand_in_for_sections_and_are_named_in_the_report(tmp_path: Path) -> None:
    ours = {"data": Halved(), "model": SmallCnn(dims=16), "forget": FineTune(1)}
    given = fedlaf.run(*SMALL, "evaluation.reference_seeds=2", folder=tmp_path, measures=[Right()], **ours)
    assert given.method == "FineTune"
    assert given.config["data"] == {"_target_": f"{__name__}.Halved", "every": 2}
    assert given.config["model"]["dims"] == 16
    assert given.weights()["head.weight"].shape == (10, 16)
    # The measure is in the table, the JSON and the verdict, as any other.
    served = given.results[-1]
    asked = served.rows
    assert given.measure("right") == pytest.approx(given.measure("accuracy_forget") * asked / 100)
    assert "| right (rows) |" in (tmp_path / "report.md").read_text()
    kept = json.loads((tmp_path / "report.json").read_text())["requests"][0]
    assert kept["models"]["retrained"]["right"] == given.measure("right", "retrained")
    assert kept["verdict"]["measures"]["right"] == str(served.verdict.words["right"])
    assert set(served.spread) >= {"right"}
    # And it is there again without its class.
    assert fedlaf.load(tmp_path).results[0].catalogue["right"].unit == "rows"


def test_an_object_and_the_same_section_give_the_same_bits_and_are_taken_up(
    report: fedlaf.Report, tmp_path: Path
) -> None:
    digits = Digits(train_rows=150, test_rows=60)
    first = fedlaf.run(*SMALL, folder=tmp_path / "a", data=digits)
    assert same(first.weights(), report.weights())
    again = fedlaf.run(*SMALL, f"resume={tmp_path / 'a'}", folder=tmp_path / "b", data=digits)
    assert again.seconds["train"] < first.seconds["train"]
    other = fedlaf.run(*SMALL, f"resume={tmp_path / 'a'}", folder=tmp_path / "c", data=Halved())
    assert not same(other.weights("original"), first.weights("original"))


class Plain:
    """An object that is no dataclass."""

    def __init__(self, value: object) -> None:
        self.value = value


def test_objects_are_described_alike_only_when_they_are_alike() -> None:
    assert described(Plain(1)) == described(Plain(1)) != described(Plain(2))
    assert described(Plain(np.arange(3))) != described(Plain(np.arange(4)))
    assert described(Plain(lambda: 1)) != described(Plain(lambda: 1))  # cannot be hashed: never the same
    assert described(Halved(3)) == {"_target_": f"{__name__}.Halved", "every": 3}
    assert described({"a": (1, None, True)}) == {"a": [1, None, True]}


# ---- errors


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data=foo"], "data: expected one of cifar10, digits,"),
        (["trian.rounds=3"], "trian.rounds: no such key 'trian'; did you mean train?"),
        (["clients=x"], "clients: expected integer, got 'x'"),
        (["train.rounds=-1"], "train.rounds: expected a whole number of at least 1, got -1"),
        (["nonsense"], "missing EQUAL"),
        (["engine=null"], "engine: expected the name of one of its options, got None"),
    ],
)
def test_errors_are_exceptions_with_the_text_of_the_command_line(
    overrides: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidValue) as raised:
        fedlaf.run(*SMALL, *overrides)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("objects", "line"),
    [
        ({"data": "digits"}, "data: expected an object with prepare and load .*data=NAME.*, got 'digits'"),
        ({"model": SmallCnn}, "model: expected an object with build"),
        ({"dta": Halved()}, "dta: expected one of data, partition"),
        ({"measures": Right()}, "measures: expected a list of objects"),
        ({"model": type("M", (SmallCnn,), {"__hash__": None})()}, "model: expected an object with a hash"),
    ],
)
def test_an_object_that_cannot_stand_there_is_one_line(objects: Mapping[str, object], line: str) -> None:
    with pytest.raises(InvalidValue, match=line):
        fedlaf.run(*SMALL, **objects)


def test_a_folder_without_a_report_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="folder: expected the folder of a run that this version wrote"):
        fedlaf.load(tmp_path)


@dataclass(frozen=True)
class Broken(SmallCnn):
    """A model that cannot be trained: its head takes one input."""

    def build(self, shape: object, classes: int, seed: int) -> object:
        built = super().build(shape, classes, seed)  # type: ignore[arg-type]
        built.head = torch.nn.Linear(1, classes)
        return built


def test_a_run_that_fails_raises_what_the_command_line_prints(tmp_path: Path) -> None:
    with pytest.raises(RoundFailed, match="finished stages are kept, resume= takes them up"):
        fedlaf.run(*SMALL, folder=tmp_path, model=Broken())


def test_two_runs_of_one_second_have_a_folder_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {fedlaf.run(*SMALL, "hydra.run.dir=out").folder for _ in range(2)}
    assert folders == {tmp_path / "out", tmp_path / "out-2"}


# ---- the process around it


def test_importing_fedlaf_is_cheap() -> None:
    code = (
        "import sys, fedlaf; print({'torch', 'flwr', 'ray', 'hydra'} & set(sys.modules)); print(fedlaf.run)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "set()"
    assert second.startswith("<function run")
    with pytest.raises(AttributeError):
        fedlaf.nothing  # noqa: B018


@pytest.fixture
def own_ray() -> Iterator[str]:
    ray.shutdown()
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray.get_runtime_context().get_node_id()
    ray.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_a_ray_that_the_caller_started_is_used_and_left_as_it_was(
    report: fedlaf.Report, own_ray: str, tmp_path: Path
) -> None:
    once = fedlaf.run(*SMALL, "engine=ray", folder=tmp_path / "a")
    assert same(once.weights(), report.weights())
    with pytest.raises(InvalidValue, match=r"engine.workers: expected at most 1: free are .*, got 3"):
        fedlaf.run(*SMALL, "engine=ray", "engine.workers=3", folder=tmp_path / "b")
    with pytest.raises(InvalidValue, match=r"engine.address: expected auto or .*, got '1.2.3.4:5'"):
        fedlaf.run(*SMALL, "engine=ray_cluster", "engine.address=1.2.3.4:5", folder=tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert ray.is_initialized()
    assert ray.get_runtime_context().get_node_id() == own_ray
    assert ray.available_resources()["CPU"] == 1  # its workers are gone


# ---- comparisons


def test_a_comparison_from_python(tmp_path: Path) -> None:
    scenario = ",".join(f'"{key}"' for key in SMALL if not key.startswith("forget"))
    found = fedlaf.compare(
        "comparison=class_removal", f"scenario=[{scenario}]", "only=[mine]", "seeds=[7]", "jobs=1",
        '+methods.mine=["forget=fine_tune","forget.rounds=1"]', f"folder={tmp_path}",
    )  # fmt: skip
    assert "mine" in found.text
    rows = {row["method"]: row for row in found.to_records()}
    assert set(rows) == {"nothing", "mine"}
    assert {report.method for report in found.reports} == {"nothing", "fine_tune"}
    (mine,) = (report for report in found.reports if report.method == "fine_tune")
    assert rows["mine"]["gap_mean"] == pytest.approx(mine.measure("gap"))
    with pytest.raises(InvalidValue, match="did you mean"):
        fedlaf.compare("comparison=class_removal", "seedz=[1]")
