"""Wrong input ends before any training: one line with key, expectation and value; exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import composed

from fedlaf import __main__ as entry
from fedlaf.core.errors import InvalidValue
from fedlaf.experiment import config as configuration
from fedlaf.experiment.config_errors import explained

SMALL = ["data=digits", "model=small_cnn", "corruption.backdoor.patch=2", "engine=inline"]
TWICE = (
    "requests=[{_target_:fedlaf.data.WithdrawClients,clients:[0],round:1},"
    "{_target_:fedlaf.data.WithdrawClients,clients:[0],round:2}]"
)

WRONG = {
    "misspelt section": (["trian.rounds=3"], "trian.rounds: no such key 'trian'; did you mean train?"),
    "misspelt key": (["train.rouds=3"], "train.rouds: no such key 'rouds'; did you mean rounds?"),
    "added key": (["+foo=3"], "foo: expected one of checkpoints, client, clients, "),
    "added argument": (["+train.foo=3"], "train: expected arguments that its class takes"),
    "unknown class of one's own": (
        ["data._target_=mine.Data"],
        "data._target_: expected the dotted name of a class that can be imported (your own files: "
        "PYTHONPATH=FOLDER); No module named 'mine', got 'mine.Data'",
    ),
    "unknown class of ours": (
        ["corruption.backdoor._target_=fedlaf.data.Nobody"],
        "corruption.backdoor._target_: expected the dotted name of a class that can be imported",
    ),
    "unknown option": (["data=foo"], "data: expected one of cifar10, digits, fashion_mnist"),
    "not an override": (["foo"], "missing EQUAL"),
    "type": (["clients=x"], "clients: expected integer, got 'x'"),
    "negative rounds": (["train.rounds=-1"], "train.rounds: expected a whole number of at least 1, got -1"),
    "nested": (["train.fit.lr=0"], "train.fit.lr: expected a finite number above 0, got 0"),
    "all withdrawn": (
        ["request.clients=[0,1,2,3,4,5,6,7,8,9]"],
        "request.clients: expected fewer than the 10 clients of the federation, got [0, 1, 2",
    ),
    "half a section": (
        ["corruption.wrong_labels={clients:[0]}"],
        "corruption.wrong_labels: expected null, or a whole section (with its _target_), got {'clients'",
    ),
    "no section": (["corruption.backdoor=7"], "corruption.backdoor: expected null, or a whole section (with"),
    "unknown client": (["request.clients=[12]"], "request.clients: expected client ids from 0 to 9, got 12"),
    "unknown class": (
        ["request=remove_classes", "request.classes=[11]"],
        "request.classes: expected classes from 0 to 9, got 11",
    ),
    "alpha": (
        ["partition=dirichlet", "partition.alpha=0"],
        "partition.alpha: expected a finite number above 0, got 0",
    ),
    "missing root": (["data=mnist", "data.root=/nowhere"], "data.root: expected a copy of MNIST"),
    "gone already": ([TWICE], "request.clients: expected clients that have not withdrawn earlier, got [0]"),
    "late request": (["request.round=99"], "request.round: expected a training round from 1 to 16, got 99"),
    "cohort": (["train.cohort=11"], "train.cohort: expected at most the 10 clients of the federation"),
    "nothing to forget": (["request=remove_wrong_labels"], "request: expected at least one row to forget"),
    "workers": (["engine=ray", "engine.workers=0"], "engine.workers: expected a whole number of at least 1"),
    "too many clients": (["clients=5000"], "clients: expected at most 1438 clients for 1438 rows, got 5000"),
    "target": (["corruption.backdoor.target=10"], "corruption.backdoor.target: expected a class below 10"),
    "decoder": (
        ["forget=laf_adam", "forget.represent.decoder=tanh"],
        "forget.represent.decoder: expected sigmoid or linear, got 'tanh'",
    ),
    "availability": (
        ["request.availability=offline"],
        "request.availability: expected online for forget=laf, which needs the forgetting clients online",
    ),
    "whole clients": (
        ["forget=federaser", "request=remove_classes"],
        "request: expected clients that leave with all their rows, all that forget=federaser can serve",
    ),
    "server rows": (["forget=fukd"], "server_rows: expected at least 1 for forget=fukd"),
    "precision": (["precision=fp8"], "precision: expected fp32 or bf16 or fp16, got 'fp8'"),
    "deterministic": (["deterministic=maybe"], "deterministic: expected true or false, got 'maybe'"),
    "gpus": (
        ["engine=ray", "engine.gpus_per_worker=1.5"],
        "engine.gpus_per_worker: expected at most 1, or a whole number of GPUs, got 1.5",
    ),
    "resume": (["resume=/nowhere"], "resume: expected the folder of an earlier run, got '/nowhere'"),
    "reference": (["evaluation.reference=never"], "evaluation.reference: expected each or last, got 'never'"),
}


@pytest.mark.parametrize(("overrides", "line"), WRONG.values(), ids=WRONG.keys())
def test_one_line_and_exit_code_2(
    overrides: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedlaf", *SMALL, *overrides])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("fedlaf: error: ")
    assert line in shown.err
    assert shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_as_a_stranger_sees_it(tmp_path: Path) -> None:
    """The same through a process of its own: no traceback, nothing left."""
    done = subprocess.run(
        [sys.executable, "-m", "fedlaf", *SMALL, "train.rounds=0"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 2
    expected = "fedlaf: error: train.rounds: expected a whole number of at least 1, got 0\n"
    assert (done.stdout, done.stderr) == ("", expected)
    assert list(tmp_path.iterdir()) == []


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from fedlaf.client import ClientSpec

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidValue, match="device: expected a CUDA device on this machine"):
        ClientSpec(None, None, "cuda")  # type: ignore[arg-type]


def test_updates_of_the_published_losses_are_chosen_and_refused_by_the_configuration() -> None:
    chosen = composed("forget=laf_tuned_losses", "forget.forget.updates=two_stage")
    assert configuration.made(chosen, "forget").forget.updates == "two_stage"
    with pytest.raises(InvalidValue) as caught:
        configuration.made(composed("forget=laf_server", "forget.forget.updates=joint"), "forget")
    line = explained(caught.value)
    assert line.startswith("forget.forget.updates: expected alternate")
    assert "\n" not in line
