"""Each client leaves once, from one training: the bits of runs of their own, and what is told of all."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from support.runs import run_command

import fedlaf
from fedlaf.core.errors import InvalidValue
from fedlaf.data import EachClient
from fedlaf.experiment.comparison.plan import Run
from fedlaf.experiment.comparison.rows import rows
from fedlaf.experiment.comparison.runs import Done
from fedlaf.report.alternatives import alternative_rows, alternatives_told

EACH = ("request=each_client", "request.clients=[0,2]", "evaluation.curve_rows=0")
BRIEF = {
    "laf_paper": (
        "forget.represent_rounds=1", "forget.represent.own_epochs=1", "forget.represent.most_rows=20",
        "forget.forget_rounds=2",
    ),
}  # fmt: skip
"""All kinds of rounds, few of them."""


@pytest.mark.parametrize("forget", ["laf", "laf_paper", "federaser"])
def test_each_has_the_bits_of_a_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: str
) -> None:
    method = (f"forget={forget}", "data.train_rows=500", *BRIEF.get(forget, ()))
    run_command(monkeypatch, tmp_path / "each", *EACH, *method)
    for number, client in ((1, 0), (2, 2)):
        own = (f"request.clients=[{client}]", "evaluation.curve_rows=0", *method)
        run_command(monkeypatch, tmp_path / f"own-{client}", *own)
        for stage in ("request", "retrain"):
            ours = tmp_path / "each" / "stages" / f"{stage}-{number}.safetensors"
            theirs = tmp_path / f"own-{client}" / "stages" / f"{stage}-1.safetensors"
            assert ours.read_bytes() == theirs.read_bytes()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("each")
    with pytest.MonkeyPatch.context() as patch:
        found: dict[str, Any] = run_command(patch, folder / "run", *EACH, "evaluation.reference_seeds=1")
    return {**found, "folder": folder / "run"}


def test_nobody_is_gone_afterwards(report: dict[str, Any]) -> None:
    first, second = report["requests"]
    assert (first["clients"], second["clients"]) == ([0], [2])
    assert 0 in second["took_part"]["retrained"]
    assert 2 in first["took_part"]["retrained"]
    assert json.loads((report["folder"] / "withdrawn.json").read_text())["clients"] == {}
    entries = (report["folder"] / "ledger.jsonl").read_text().splitlines()
    assert "request" not in {json.loads(line)["kind"] for line in entries}


def test_the_run_counts_by_its_mean(report: dict[str, Any]) -> None:
    gaps = [one["models"]["unlearned"]["gap"] for one in report["requests"]]
    loaded = fedlaf.load(report["folder"])
    assert loaded.alternatives
    assert loaded.distance == pytest.approx(sum(gaps) / 2)
    table = alternative_rows(loaded)
    assert [row[0] for row in table[1:]] == ["0", "2", "mean of 2"]
    assert table[-1][3] == f"{sum(gaps) / 2:.2f}"
    assert len(alternative_rows(loaded, most=1)) == 3
    assert alternatives_told(loaded).startswith("Each of 2 clients left once")
    run = Run("IID", "laf", 0, (), report["folder"])
    (row,) = rows([Done(run, report)])
    assert row.gap.mean == pytest.approx(sum(gaps) / 2)
    shares = [one["costs"]["unlearned"]["labels_read"] for one in report["requests"]]
    assert row.shares["labels_read"] == pytest.approx(sum(shares))
    page = (report["folder"] / "report.html").read_text()
    assert "Each client in turn" in page


def test_a_run_goes_on_where_it_was(report: dict[str, Any], tmp_path: Path) -> None:
    again = fedlaf.run(*_keys(report), folder=tmp_path / "again")
    (tmp_path / "again" / "report.json").unlink()
    for left in (tmp_path / "again" / "stages").glob("*-2*"):
        left.unlink()
    resumed = fedlaf.resume(tmp_path / "again")
    gaps = [[one.measure("gap", "unlearned") for one in found.results] for found in (resumed, again)]
    assert gaps[0] == gaps[1]


def _keys(report: dict[str, Any]) -> list[str]:
    return [key for key in shlex.split(report["command"])[1:] if not key.startswith("hydra.")]


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (["erase=true"], "erase"),
        (["request.clients=[77]"], "clients"),
        (["request.clients=[]"], "clients"),
        (["+again={_target_: fedlaf.data.WithdrawClients, clients: [1]}"], "again"),
        (["requests=[${request},{_target_: fedlaf.data.WithdrawClients, clients: [1]}]"], "requests"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, keys: list[str], named: str) -> None:
    with pytest.raises(InvalidValue, match=named):
        fedlaf.run("request=each_client", "data=digits", "engine=inline", *keys, folder=tmp_path / "run")


def test_a_federation_of_one_has_nobody_to_stay() -> None:
    with pytest.raises(InvalidValue, match="clients"):
        EachClient([])
