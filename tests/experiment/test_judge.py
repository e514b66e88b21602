"""Every measure, the verdict and the ledger in a whole run, and what `resume=` takes up of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runs import repeatable, run_command

from fedlaf.evaluation import (
    CATALOGUE,
    Halves,
    HeadRelearn,
    InformationDifference,
    Layers,
    Probe,
    Relearn,
    catalogue_of,
)
from fedlaf.evaluation.attacks import ATTACKS, FIGURES

FULL = ("evaluation=full", "evaluation.reference_seeds=1", "evaluation.curve_rows=0", "data.train_rows=400")
ALWAYS = set(CATALOGUE)
ALL = set(catalogue_of((Relearn(), HeadRelearn(), Probe(), Layers(), Halves(), InformationDifference())))
SOMETIMES = {
    "accuracy_test_kept", "accuracy_test_removed", "attack_success", "resurfacing", "information_difference",
    "fairness_passes",
}  # fmt: skip
RMIA = {f"mia_rmia_{figure}" for figure in FIGURES}


def test_a_full_evaluation_measures_everything_and_judges_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = run_command(monkeypatch, tmp_path / "a", *FULL)
    (request,) = report["requests"]
    measured = request["models"]
    for model in ("original", "unlearned", "retrained"):
        assert set(measured[model]) - SOMETIMES == ALL - SOMETIMES
        assert set(request["layers"][model]) == {"extractor.0", "extractor.4", "head"}
        assert [len(values) for values in request["by_class"][model].values()] == [10, 10, 10]
    same = measured["retrained"]
    assert same["tow"] == same["cka_forget"] == pytest.approx(1)
    assert same["gap"] == same["js_forget"] == same["l2_test"] == 0
    assert measured["original"]["relearn_steps"] == 0
    # One pair of retrainings: its distance is the mean and the largest.
    verdict = request["verdict"]
    assert verdict["largest_between_retrainings"] == pytest.approx(request["spread"])
    assert set(verdict["distances"]) == set(measured["unlearned"])
    assert set(verdict["measures"]) == set(request["spread"]) == set(measured["unlearned"]) - SOMETIMES
    expected = measured["original"]["js_forget"] / request["spread"]["js_forget"]
    assert verdict["rho"] == pytest.approx(expected)
    for name, word in verdict["measures"].items():
        within = verdict["distances"][name] <= request["spread"][name] + 1e-9
        assert (word == "within") == within
    # The ledger: all clients were asked to forget, and nobody read a row twice.
    assert request["took_part"] == {"unlearned": [*range(10)], "retrained": [*range(1, 10)]}
    costs = request["costs"]
    assert costs["retrained"]["rows_read"] == costs["retrained"]["retain_rows_read"] == 360
    assert costs["unlearned"]["forget_rows_read"] == 40
    assert report["training"]["retain_rows_read"] == 400
    assert all(cost["client_memory"] > 0 and cost["driver_memory"] > 0 for cost in costs.values())
    # Taken up, nothing but time is different.
    again = run_command(monkeypatch, tmp_path / "b", *FULL, f"resume={tmp_path / 'a'}")
    assert repeatable(again) == repeatable(report)
    assert again["requests"][0]["verdict"] == verdict
    assert again["requests"][0]["took_part"] == request["took_part"]


def test_by_default_the_costly_measures_and_the_reference_seeds_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (request,) = run_command(monkeypatch, tmp_path / "a", "evaluation.curve_rows=0", "data.train_rows=400")[
        "requests"
    ]
    assert set(request["models"]["unlearned"]) - SOMETIMES == ALWAYS - SOMETIMES - RMIA
    assert request["verdict"]["outcome"][-1] == "no reference seeds"
    assert set(request["verdict"]["measures"].values()) == {"no reference seeds"}
    assert request["verdict"]["rho"] is None
    assert request["spread"] == request["layers"] == {}


def test_few_images_are_looked_for_in_what_a_request_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the retrained model too, which is the control; the original has not changed."""
    keys = ("evaluation/measure=[reconstruction]", "evaluation.measure.reconstruction.steps=5",
            "data.train_rows=200", "forget=fine_tune", "request=remove_samples", "request.share=null",
            "request.classes=null", "request.rows={2: [0, 4]}")  # fmt: skip
    (request,) = run_command(monkeypatch, tmp_path / "a", *keys)["requests"]
    names = {"reconstruction_psnr", "reconstruction_ssim"}
    found = {model: names & set(measures) for model, measures in request["models"].items()}
    assert found == {"original": set(), "unlearned": names, "retrained": names}
    assert names & set(request["verdict"]["distances"]) == names


def test_attacks_of_the_always_list_are_those_of_the_catalogue() -> None:
    assert {f"mia_{a}_{f}" for a in ATTACKS for f in FIGURES} < ALWAYS
