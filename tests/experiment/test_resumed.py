"""A run that is killed at any moment and resumed ends with the bits, costs and curves of one that was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.runs import StagesRun, composed, same_weights, until_killed

from fedlaf.core import whole_file
from fedlaf.core.cost import PEAKS, Cost
from fedlaf.core.errors import InvalidValue
from fedlaf.core.trees import NotStorable
from fedlaf.experiment import api, pipeline
from fedlaf.experiment.checkpoints import saved_stages
from fedlaf.experiment.judge import Judge
from fedlaf.experiment.plan import Plan, prepare
from fedlaf.experiment.round_checkpoints import RoundCheckpoints
from fedlaf.experiment.run_record import RECORD, RunRecord, alone_in
from fedlaf.report import Report, result_values

BASE = ("data=digits", "data.train_rows=120", "data.test_rows=30", "model=small_cnn", "clients=3",
        "corruption=none", "engine=inline", "train.rounds=3", "evaluation.curve_rows=6")  # fmt: skip


class Notes(StagesRun):
    """A watch that keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def plan(method: str, *overrides: str) -> Plan:
    return prepare(composed(*BASE, f"forget={method}", *overrides), method)


def run(of: Plan, folder: Path, *, go_on: bool = False) -> tuple[Report, list[str]]:
    watch = Notes()
    return pipeline.run(of, folder, watch, go_on=go_on), watch.lines  # type: ignore[arg-type]


def counted(cost: Cost) -> dict[str, float]:
    return {k: v for k, v in cost.numbers().items() if k not in (*PEAKS, "client_seconds")}


def alike(one: Report, other: Report) -> bool:
    costs = [
        [{model: counted(cost) for model, cost in result.costs.items()} for result in report.results]
        for report in (one, other)
    ]
    models = [json.dumps([result_values(r)["models"] for r in report.results]) for report in (one, other)]
    return bool(
        costs[0] == costs[1] and models[0] == models[1] and one.curves == other.curves
        and counted(one.training) == counted(other.training) and one.answers == other.answers
    )  # fmt: skip


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, Report]:
    """A run that nobody kills."""
    of, folder = plan("fine_tune"), tmp_path_factory.mktemp("whole")
    return of, folder, run(of, folder)[0]


# What each keeps between rounds: clients' targets and representations; sums of updates; Adam's state on the
# server; an origin and gradients; the stored updates themselves, with a cohort.
KILLED = [
    ("laf_adam", ("forget.align_rounds=2",), (6, 9)),
    ("conda", (), (4,)),
    (
        "laf_server",
        (
            "forget.represent_rounds=1",
            "forget.forget_rounds=1",
            "forget.forget_steps=2",
            "forget.recover_rounds=1",
        ),
        (7,),
    ),
    ("fedosd", ("forget.gradient_rounds=2", "forget.recover_rounds=2"), (8,)),
    ("federaser", ("train.cohort=2", "history=[updates,last,magnitudes,models]"), (4,)),
]


@pytest.mark.parametrize(("method", "overrides", "exchanges"), KILLED, ids=[m for m, _, _ in KILLED])
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    method: str, overrides: tuple[str, ...], exchanges: tuple[int, ...], tmp_path: Path
) -> None:
    of = plan(method, *overrides)
    whole, _ = run(of, tmp_path / "whole")
    for exchange in exchanges:
        folder = tmp_path / str(exchange)
        assert until_killed(of, folder, exchange)
        again, notes = run(of, folder, go_on=True)
        assert any("goes on after" in line for line in notes)
        assert same_weights(folder, tmp_path / "whole")
        assert alike(again, whole)
        assert not list(folder.rglob("*.rounds"))


def test_another_run_takes_up_the_rounds_of_one_that_was_killed(tmp_path: Path) -> None:
    of = plan("conda")
    run(of, tmp_path / "whole")
    assert until_killed(of, tmp_path / "first", 4)
    before = {p: p.read_bytes() for p in (tmp_path / "first").rglob("*") if p.is_file()}
    assert saved_stages(tmp_path / "first") == ["train (2 rounds of it)"]
    _, notes = run(plan("conda", f"resume={tmp_path / 'first'}"), tmp_path / "second")
    assert "train: goes on after 2 rounds of 3" in notes
    assert same_weights(tmp_path / "second", tmp_path / "whole")
    assert {p: p.read_bytes() for p in (tmp_path / "first").rglob("*") if p.is_file()} == before
    _, notes = run(plan("conda", f"resume={tmp_path / 'first'}", "train.fit.lr=1e-3"), tmp_path / "third")
    assert any(line.startswith("train: train.rounds/round-000002.json is of another run: configuration")
               for line in notes)  # fmt: skip


def test_what_was_measured_before_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves = "{_target_: fedlaf.data.WithdrawClients, clients: [%d], round: %d}"
    of = plan("fine_tune", f"requests=[{leaves % (0, 1)},{leaves % (2, 2)}]")
    whole, _ = run(of, tmp_path / "whole")
    assert until_killed(of, tmp_path / "killed", 8)
    measured: list[str] = []
    judge = Judge.judge

    def noting(self: Judge, models: Any, noted: Any = None) -> Any:
        measured.append(self.name)
        return judge(self, models, noted)

    monkeypatch.setattr(Judge, "judge", noting)
    again, _ = run(of, tmp_path / "killed", go_on=True)
    assert measured == ["request-2", "request-end"]
    assert alike(again, whole)
    for one, other in zip(again.results, whole.results, strict=True):
        left, right = (
            {**result_values(r), "costs": {}, "share_of_retraining_percent": {}} for r in (one, other)
        )
        assert json.dumps(left) == json.dumps(right)
        assert json.loads(json.dumps(one.view.values)) == json.loads(json.dumps(other.view.values))


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_is_damaged_is_named_and_computed_again(
    tmp_path: Path, fine_tuned: tuple[Plan, Path, Report]
) -> None:
    of, whole, _ = fine_tuned
    folder = tmp_path / "killed"
    assert until_killed(of, folder, 4)
    last, _ = sorted((folder / "stages" / "train.rounds").glob("round-*.json"), reverse=True)
    damage(last)
    _, notes = run(of, folder, go_on=True)
    assert notes[0].startswith("train: train.rounds/round-000002.json is damaged")
    assert notes[1] == "train: goes on after 1 rounds of 3"
    assert same_weights(folder, whole)
    other = tmp_path / "other"
    assert until_killed(of, other, 4)
    for path in (other / "stages" / "train.rounds").glob("*.safetensors"):
        damage(path)
    _, notes = run(of, other, go_on=True)
    assert notes[1].startswith("train: train.rounds/round-000001.json is damaged")
    assert notes[1].endswith("; the stage begins again")
    assert same_weights(other, whole)
    damage(folder / "stages" / "retrain-1.safetensors")  # a finished stage
    _, notes = run(of, folder, go_on=True)
    assert any(line.startswith("retrain-1: computed again: ") and "damaged" in line for line in notes)
    assert same_weights(folder, whole)


def test_a_full_disk_leaves_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fine_tuned: tuple[Plan, Path, Report]
) -> None:
    of, whole, _ = fine_tuned
    written = 0
    fsync = whole_file.fsync

    def full(handle: int) -> None:
        nonlocal written
        written += 1
        if written > 12:
            raise OSError(28, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patched:
        patched.setattr(whole_file, "fsync", full)
        with pytest.raises(OSError, match="No space left") as stopped:
            run(of, tmp_path / "full")
    assert stopped.value.filename is not None
    assert saved_stages(tmp_path / "full")
    assert not list((tmp_path / "full").rglob("*.part"))
    run(of, tmp_path / "full", go_on=True)
    assert same_weights(tmp_path / "full", whole)


def test_fewer_checkpoints_and_none(tmp_path: Path) -> None:
    of = plan("fine_tune", "checkpoints.every=2")
    assert until_killed(of, tmp_path / "two", 4)
    assert saved_stages(tmp_path / "two") == ["train (2 rounds of it)"]
    assert until_killed(plan("fine_tune", "checkpoints.every=0"), tmp_path / "none", 4)
    assert saved_stages(tmp_path / "none") == []


def test_what_no_file_holds_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fine_tuned: tuple[Plan, Path, Report]
) -> None:
    def cannot(*_: Any, **__: Any) -> None:
        raise NotStorable("a some.Thing")

    of, _, whole = fine_tuned
    with monkeypatch.context() as patched:
        patched.setattr(RoundCheckpoints, "save", cannot)
        again, notes = run(of, tmp_path / "again")
    assert "train: no checkpoints between its rounds, for its method keeps a some.Thing" in notes
    assert alike(again, whole)


def test_the_command_goes_on_in_the_runs_own_folder(
    tmp_path: Path, fine_tuned: tuple[Plan, Path, Report]
) -> None:
    of, _, whole = fine_tuned
    folder = tmp_path / "killed"
    assert until_killed(of, folder, 6)
    assert RunRecord.of(folder).config == json.loads(json.dumps(of.config))
    again = api.resume(folder)
    assert alike(again, whole)
    assert (folder / "report.json").is_file()
    assert api.resume(folder).seed == again.seed  # a finished run is only read


def test_what_cannot_be_gone_on_with_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"resume: expected the folder of a run"):
        api.resume(tmp_path)
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(InvalidValue, match=r"resume: expected the folder of a run"):
        api.resume(tmp_path)
    with (
        alone_in(tmp_path),
        pytest.raises(InvalidValue, match=r"resume: expected a folder in which no other process runs"),
        alone_in(tmp_path),
    ):
        pass
