"""Many clients of a few rows, some of them asked, many withdrawing at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from support.runs import composed

from fedlaf import __main__ as entry
from fedlaf.data import Torchvision
from fedlaf.experiment import config as configuration

WITHDRAWN = list(range(30))
SMALL = ["experiment=cross_device", "data=digits", "clients=230", "corruption.backdoor.clients=${range:0,30}",
         "corruption.backdoor.patch=2", "engine=inline", "train.rounds=3", "train.cohort=20",
         "forget.cohort=25"]  # fmt: skip


def test_the_preset_is_ten_thousand_clients_of_six_rows_of_which_a_hundred_are_sampled() -> None:
    config = composed("experiment=cross_device")
    source = configuration.made(config, "data")
    assert isinstance(source, Torchvision)
    assert (source.name, source.train_rows, config.clients) == ("FashionMNIST", None, 10_000)
    assert config.train.cohort == 100
    assert list(config.request.clients) == list(config.corruption.backdoor.clients) == list(range(500))


def test_many_leave_at_once_and_only_they_and_the_fixed_cohort_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fedlaf", *SMALL, f"hydra.run.dir={tmp_path}"])
    entry.main()
    (request,) = json.loads((tmp_path / "report.json").read_text())["requests"]
    assert request["withdrawn"] == WITHDRAWN
    assert request["rows"] == sum(7 if k < 1438 % 230 else 6 for k in WITHDRAWN)
    assert request["answers"]["failed"] == 0
    records = records_of(tmp_path, "request-1")
    fixed_cohort = set(records[0]["asked"]) - set(WITHDRAWN)
    assert len(fixed_cohort) == 25
    for record in records:
        asked = set(record["asked"])
        forgetting = record["phase"] in ("axes", "marks", "targets")
        assert asked == (set(WITHDRAWN) if forgetting else fixed_cohort), record["phase"]
    assert [record["phase"] for record in records] == ["features", "axes", "marks", "targets"]
    for record in records_of(tmp_path, "retrain-1"):
        assert len(record["asked"]) == 20
        assert not set(record["asked"]) & set(WITHDRAWN)


def records_of(folder: Path, stage: str) -> list[dict[str, Any]]:
    return json.loads((folder / "stages" / f"{stage}.json").read_text())["records"]
