"""What a method needs: refused in one line before anything runs, or kept, taken up and given."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.federations import RecordingGrid, enrolled, initial_weights, same_bits, small_spec
from support.runs import composed, run_plan

from fedlaf.client import make_client_app
from fedlaf.core.errors import InvalidValue
from fedlaf.core.request import ForgetRequest
from fedlaf.data import Iid
from fedlaf.data.federation import build
from fedlaf.experiment.needs import inputs_for
from fedlaf.experiment.plan import Plan, prepare
from fedlaf.method.contract import MethodInputs, Stage
from fedlaf.method.history_writer import HistoryWriter
from fedlaf.method.update_history import HistoryHandle, HistorySpec
from fedlaf.report import Report
from fedlaf.simulation import InlineGrid
from fedlaf.simulation.ray.engine import end
from fedlaf.strategies.fedavg import FedAvg

BASE = ("data=digits", "data.train_rows=250", "data.test_rows=50", "model=small_cnn", "clients=4",
        "server_rows=50", "corruption.backdoor.patch=2", "engine=inline", "train.rounds=3",
        "evaluation.curve_rows=0")  # fmt: skip
METHODS = (
    "retrain", "fine_tune", "federaser", "fedaccum", "pgd", "not", "conda", "fast_fedul", "fukd", "sifu",
    "fats",
)  # fmt: skip
SAMPLES = ("request=remove_samples",)


def planned(*overrides: str) -> Plan:
    return prepare(
        composed(*BASE, *overrides), next(o.split("=")[1] for o in overrides if o.startswith("forget="))
    )


def run(folder: Path, *overrides: str) -> tuple[list[str], Report]:
    return run_plan(planned(*overrides), folder)


# ---- refused


@pytest.mark.parametrize("method", ["federaser", "fedaccum", "pgd", "conda", "fast_fedul", "fukd", "sifu"])
@pytest.mark.parametrize("request_", ["remove_samples", "remove_classes"])
def test_methods_for_clients_refuse_rows_of_clients_that_stay(method: str, request_: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        planned(f"forget={method}", f"request={request_}")
    expected = f"request: expected clients that leave with all their rows, all that forget={method} can serve"
    assert str(refused.value).startswith(expected)


@pytest.mark.parametrize("method", ["retrain", "fine_tune", "not", "fats", "laf_adam"])
def test_other_methods_serve_rows_and_classes(method: str) -> None:
    for request in ("remove_samples", "remove_classes"):
        assert planned(f"forget={method}", f"request={request}").schedule


@pytest.mark.parametrize("method", ["pgd", "laf", "laf_paper", "laf_repair"])
def test_methods_that_need_the_leaver_refuse_one_that_is_not_there(method: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        planned(f"forget={method}", "request.availability=offline")
    assert str(refused.value) == (
        f"request.availability: expected online for forget={method}, "
        "which needs the forgetting clients online, got 'offline'"
    )


def test_who_stays_with_other_rows_cannot_be_offline() -> None:
    with pytest.raises(InvalidValue, match=r"request.availability: expected online where clients stay"):
        planned("forget=fine_tune", *SAMPLES, "request.availability=offline")
    with pytest.raises(InvalidValue, match=r"request.availability: expected online or offline, got 'away'"):
        planned("forget=fine_tune", "request.availability=away")


def test_distillation_on_the_server_needs_rows_there() -> None:
    with pytest.raises(InvalidValue, match=r"^server_rows: expected at least 1 for forget=fukd"):
        planned("forget=fukd", "server_rows=0")
    with pytest.raises(InvalidValue, match=r"^server_rows: expected fewer than the 250 rows"):
        planned("forget=fukd", "server_rows=250")


@pytest.mark.parametrize("history", ["[gradients]", "everything", "3"])
def test_unknown_kinds_of_history_are_refused(history: str) -> None:
    with pytest.raises(InvalidValue, match=r"^history: expected auto, or a list"):
        planned("forget=laf", f"history={history}")


# ---- rows on the server


def test_the_servers_rows_are_nobody_elses_and_have_no_labels() -> None:
    spec = replace(small_spec(4).federation, server_rows=40)
    federation = build(spec)
    held = np.concatenate([*federation.parts, federation.server])
    assert sorted(held.tolist()) == list(range(400))
    assert len(federation.on_server()) == 40
    assert not hasattr(federation.on_server(), "y")
    assert len(build(small_spec(4).federation).on_server()) == 0
    # Without them the partition is what it always was.
    stream = np.random.default_rng(0)
    right = build(small_spec(4).federation).dataset.train.y.numpy()
    assert [len(part) for part in Iid()(right, 4, stream)] == [100] * 4
    other = build(replace(spec, seed=1))
    assert other.server is not None
    assert other.server.tolist() != federation.server.tolist()  # type: ignore[union-attr]


# ---- recording


def trained(grid_of: Any, folder: Path | None) -> Any:
    spec = small_spec(4)
    grid, registry = enrolled(spec, grid_of(spec))
    history_writer = (
        None if folder is None else HistoryWriter(HistoryHandle(HistorySpec(1, 1.0, True, True), folder))
    )
    stage = Stage("train", 0, registry, history_writer=history_writer)
    return FedAvg(3).run(grid, initial_weights(spec), stage)


def inline(spec: Any) -> InlineGrid:
    return InlineGrid(make_client_app(spec), spec.federation.clients)


def test_recording_changes_no_bit_and_records_what_clients_sent(tmp_path: Path) -> None:
    grids: list[RecordingGrid] = []

    def watched(spec: Any) -> RecordingGrid:
        grids.append(RecordingGrid(inline(spec)))
        return grids[-1]

    plain, kept = trained(inline, None), trained(watched, tmp_path / "r")
    assert same_bits(plain.weights, kept.weights)
    counts = {n for n in plain.cost.numbers() if not n.endswith(("seconds", "memory", "bytes_down"))}
    assert all(getattr(plain.cost, n) == getattr(kept.cost, n) for n in counts)
    (grid,) = grids
    models = [m.content["model"] for m in grid.replies if "model" in m.content]
    assert len(models) == 12
    last = load_file(tmp_path / "r" / "last" / "client-0003.safetensors")
    sent = {k: v.numpy() for k, v in models[-1].items()}
    assert {k: v.tobytes() for k, v in last.items()} == {k: v.tobytes() for k, v in sent.items()}


@pytest.mark.xdist_group("ray")
def test_recording_on_ray_changes_no_bit_either(tmp_path: Path) -> None:
    """There, workers would have sent sums; now each answer comes by itself."""
    try:
        run(tmp_path / "ray", "forget=fedaccum", "engine=ray", "engine.workers=2")
    finally:
        end()
    run(tmp_path / "inline", "forget=fedaccum")
    for name in ("train", "request-1"):
        one, other = (load_file(tmp_path / e / "stages" / f"{name}.safetensors") for e in ("ray", "inline"))
        assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in other.items()}


def test_training_keeps_what_the_method_needs_and_nothing_else(tmp_path: Path) -> None:
    for method, kinds in (
        ("conda", {"magnitudes"}),
        ("pgd", {"last"}),
        ("federaser", {"updates"}),
        ("fats", {"models"}),
    ):
        run(tmp_path / method, f"forget={method}", "train.rounds=2")
        records = tmp_path / method / "stages" / "train.history"
        assert {p.name for p in records.iterdir() if p.is_dir()} == kinds
    run(tmp_path / "not", "forget=not", "train.rounds=2")
    assert not [p for p in (tmp_path / "not" / "stages").iterdir() if p.is_dir()]


def test_one_training_serves_many_methods(tmp_path: Path) -> None:
    """The base run keeps everything; each method takes it up, sees its own part and pays for that alone."""
    run(tmp_path / "base", "forget=not", "history=[updates,last,magnitudes,models]")
    bytes_of_model = sum(v.nbytes for v in initial_weights(small_spec(4)).values())
    stored = {
        "federaser": 2 * 4 + 1, "fedaccum": 3 * 4 + 1, "pgd": 4, "conda": 4, "fast_fedul": 12, "retrain": 1,
        "sifu": 3 * 4 + 1, "fats": 3, "not": 0, "fine_tune": 0,
    }  # fmt: skip
    for method, models in stored.items():
        names, report = run(tmp_path / method, f"forget={method}", f"resume={tmp_path / 'base'}")
        assert names == ([] if method == "not" else ["request-1"])
        assert report.results[0].costs["unlearned"].bytes_stored == models * bytes_of_model
        assert not (tmp_path / method / "stages" / "train.history").exists()  # referred to, not copied
    # A run that refers to them can be taken up in turn, from a folder elsewhere.
    names, _ = run(tmp_path / "deep" / "er", "forget=fast_fedul", f"resume={tmp_path / 'conda'}")
    assert names == ["request-1"]
    # The same bits as a run that trained for itself.
    run(tmp_path / "alone", "forget=federaser")
    one, other = (
        load_file(tmp_path / run / "stages" / "request-1.safetensors") for run in ("alone", "federaser")
    )
    assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in other.items()}


def test_a_training_without_the_records_that_are_needed_is_no_training(tmp_path: Path) -> None:
    run(tmp_path / "base", "forget=federaser", "train.rounds=2")
    for method, again in (("fedaccum", True), ("conda", True), ("fine_tune", False)):
        overrides = (f"forget={method}", "train.rounds=2", f"resume={tmp_path / 'base'}")
        names, _ = run(tmp_path / method, *overrides)
        assert ("train" in names) == again
    # Nor is one whose records are gone.
    os.rename(tmp_path / "base" / "stages" / "train.history", tmp_path / "moved")
    again = run(tmp_path / "b", "forget=federaser", "train.rounds=2", f"resume={tmp_path / 'base'}")
    assert "train" in again[0]
    saved = json.loads((tmp_path / "b" / "stages" / "train.json").read_text())
    assert saved["history"] == {**HistorySpec(every=2).__dict__, "folder": "train.history"}


def test_records_go_on_where_training_goes_on(tmp_path: Path) -> None:
    """A second request: its method sees all rounds, and nothing of who left in the first."""
    leave = [f"{{_target_: fedlaf.data.WithdrawClients, clients: [{k}], round: {k + 1}}}" for k in (0, 2)]
    _, report = run(tmp_path / "a", "forget=fedaccum", f"requests=[{','.join(leave)}]")
    stages = tmp_path / "a" / "stages"
    rounds = {p.name: sorted(r.name for r in (p / "updates").iterdir()) for p in stages.glob("*.history")}
    assert rounds == {"train.history": ["round-0001"], "train-from-1.history": ["round-0002", "round-0003"]}
    first, second = report.results[:2]
    bytes_of_model = sum(v.nbytes for v in initial_weights(small_spec(4)).values())
    assert first.costs["unlearned"].bytes_stored == (4 + 1) * bytes_of_model
    assert second.costs["unlearned"].bytes_stored == (3 * 3 + 1) * bytes_of_model


# ---- served


def served_on_a_recording_grid(
    method: str, folder: Path, *overrides: str
) -> tuple[Any, Any, RecordingGrid, Any]:
    """A request stage of a method, run over a watched grid after a training that kept what it needs."""
    plan = planned(f"forget={method}", *overrides)
    grid, registry = enrolled(plan.spec, InlineGrid(make_client_app(plan.spec), 4))
    history_writer = HistoryWriter(HistoryHandle(plan.history, folder))
    start = initial_weights(plan.spec)
    trained = plan.train.run(grid, start, Stage("train", 0, registry, history_writer=history_writer))
    ((at, request),) = plan.schedule
    asked = replace(registry, request=request, trained=at)
    inputs = inputs_for(plan.method, asked, [history_writer.handle], lambda: start, spec=plan.spec)
    watched = RecordingGrid(grid)
    result = plan.method.run(watched, trained.weights, Stage("request-1", 0, asked, inputs=inputs))
    return result, trained, watched, asked


@pytest.mark.parametrize("method", METHODS)
def test_a_leaver_gets_no_message_but_those_its_help_is_asked_for_in(method: str, tmp_path: Path) -> None:
    offline = () if method == "pgd" else ("request.availability=offline",)
    result, trained, grid, asked = served_on_a_recording_grid(method, tmp_path / "r", *offline)
    withdrawing = asked.nodes[0]
    to_withdrawing = [m.metadata.message_type for m in grid.sent if m.metadata.dst_node_id == withdrawing]
    assert to_withdrawing == (["train.ascend"] if method == "pgd" else [])
    assert all(np.isfinite(v).all() for v in result.weights.values())
    assert not same_bits(result.weights, trained.weights)
    cost = result.cost
    assert cost.messages == 2 * len(grid.sent)
    assert cost.bytes_stored == (0 if method in ("fine_tune", "not") else cost.bytes_stored) >= 0
    working = method in ("retrain", "fine_tune", "federaser", "pgd", "not", "sifu", "fats")
    assert (cost.gradient_passes > 0) == (cost.labels_read > 0) == (cost.bytes_up > 0) == working
    assert cost.server_passes == (50 * 6 if method == "fukd" else 0)
    if method not in ("fine_tune", "not"):
        assert cost.bytes_stored > 0


def test_a_method_that_asks_for_what_it_did_not_name_is_told() -> None:
    with pytest.raises(LookupError, match="start was not given"):
        MethodInputs().require("start")


def test_a_request_knows_whether_its_clients_are_there() -> None:
    ((_, request),) = planned("forget=not", "request.availability=offline").schedule
    assert request.offline
    assert request.withdrawn == {0}
    assert not ForgetRequest.of_clients([0], {0: 3}).offline
