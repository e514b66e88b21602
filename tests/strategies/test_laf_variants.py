"""Beside the closed form: projected features, a VAE for h, Adam steps after it, repair without a way back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from support.closed_form import stage, trained_by, wide
from support.federations import RecordingGrid, enrolled, furthest, small_spec

from fedlaf.client import ClientSpec
from fedlaf.core.errors import InvalidValue
from fedlaf.core.request import ForgetRequest
from fedlaf.core.seeding import torch_stream
from fedlaf.core.types import Weights
from fedlaf.data import Dataset, Digits, LabelledRows, Trigger, as_input
from fedlaf.data.federation import build
from fedlaf.models import build_vae
from fedlaf.objectives import Alignment, ClosedForm, Fit, Represent, laf_closed_form, laf_losses
from fedlaf.protocol.messages import Part
from fedlaf.strategies.base.aggregate import difference, inner
from fedlaf.strategies.base.rounds import Rounds
from fedlaf.strategies.laf import Laf
from fedlaf.strategies.laf_hybrid import LafHybrid
from fedlaf.strategies.laf_repair import LafRepair
from fedlaf.strategies.laf_vae import LafVae

ALL = ClosedForm(most_rows=None, secure_aggregation=True)
"""All rows count, so that nothing depends on who holds which."""


def rounds_of(method: Laf, spec: ClientSpec, weights: Weights, request: ForgetRequest) -> Rounds:
    grid, registry = enrolled(spec)
    rounds = Rounds(method, weights, stage(spec, registry, request))
    rounds.run(grid)
    return rounds


@pytest.fixture(scope="module")
def trained() -> Weights:
    return trained_by(small_spec(1, rows=600))


def of_class(spec: ClientSpec, label: int) -> ForgetRequest:
    """The request for all rows of a class."""
    federation = build(spec.federation)
    held = {k: np.flatnonzero(labels == label).tolist() for k, labels in enumerate(federation.labels)}
    return ForgetRequest.of_samples({k: rows for k, rows in held.items() if rows}, federation.sizes)


# ---- unlike marks


@dataclass(frozen=True)
class MarkedDigits:
    """Digits, of which the first 120 bear a mark and a label of its own, the next 120 another."""

    def prepare(self) -> None: ...

    def load(self) -> Dataset:
        whole = Digits(train_rows=600, test_rows=100).load()
        x, y = whole.train.x.clone(), whole.train.y.clone()
        for number, trigger in enumerate((Trigger(2, 3), Trigger(2, 5, place="upper_left"))):
            rows = slice(120 * number, 120 * (number + 1))
            x[rows], y[rows] = trigger.applied(x[rows]), trigger.target
        return replace(whole, train=LabelledRows(x, y))


def test_unlike_marks_of_several_clients_are_found_as_if_one_held_all() -> None:
    """Who holds which rows changes nothing: the same two directions, the same solution."""
    first = small_spec(1, source=MarkedDigits(), backdoor=None)
    weights = wide(trained_by(first))
    found = []
    for clients in (1, 2, 5):
        spec = small_spec(clients, source=MarkedDigits(), backdoor=None)
        held = {k: np.flatnonzero(part < 400).tolist() for k, part in enumerate(build(spec.federation).parts)}
        request = ForgetRequest.of_samples(held, build(spec.federation).sizes)
        found.append(rounds_of(Laf(ALL), spec, weights, request))
    assert [rounds.cost.rounds for rounds in found] == [2, 4, 4]
    two, five = (rounds.state.aux["directions"] for rounds in found[1:])
    assert two.shape == (2, 32)
    assert np.allclose(two, five, atol=1e-9)
    name = [name for name in weights if name.startswith("extractor")][-2]
    assert np.abs(found[0].state.weights[name] - weights[name]).max() > 1e-3
    for rounds in found[1:]:
        assert furthest(found[0].state.weights, rounds.state.weights) < 1e-9


# ---- projected features


@pytest.mark.parametrize("clients", [1, 4])
def test_projected_features_give_the_ridge_solution_over_them(clients: int, trained: Weights) -> None:
    """From scratch in one place: the regression of all rows' wanted changes on their projected features."""
    spec = small_spec(clients, rows=600, backdoor=None)
    request = of_class(spec, 3)
    rule = replace(ALL, projection=40)
    moved = {}
    for name, used in (("plain", ALL), ("projected", rule)):
        weights = rounds_of(Laf(used), spec, wide(trained), request).state.weights
        moved[name] = {k: weights[k] - wide(trained)[k] for k in trained if k.startswith("extractor")}
    weight = [name for name in trained if name.startswith("extractor")][-2]
    dims, features = trained[weight].shape
    matrix = rule.projected(features, torch_stream(0, "request-1", laf_closed_form.PROJECTION))
    assert matrix is not None
    change = torch.from_numpy(moved["projected"][weight])
    assert torch.linalg.matrix_rank(change, rtol=1e-9) <= min(dims, 40)
    # What it changes lies in the span of the projections alone.
    basis = torch.linalg.qr(matrix).Q
    assert torch.allclose(change @ basis @ basis.T, change, atol=1e-10)
    both = [np.ravel(moved[name][weight]) for name in ("plain", "projected")]
    assert np.corrcoef(*both)[0, 1] > 0.3


def test_projected_sums_are_as_small_as_was_asked(trained: Weights) -> None:
    spec = small_spec(3, rows=600)
    grid, registry = enrolled(spec)
    wire = RecordingGrid(grid)
    asked = stage(spec, registry, ForgetRequest.of_clients([0], build(spec.federation).sizes))
    Laf(ClosedForm(projection=16)).run(wire, trained, asked)
    sent = [message.content.array_records[Part.STATISTICS] for message in wire.replies]
    assert {len(record["features"].numpy()) for record in sent if "features" in record} == {17 * 18 // 2}
    assert {record["cross"].numpy().shape[1] for record in sent if "cross" in record} == {17}


# ---- a VAE for h


def test_outliers_are_what_the_vae_reconstructs_badly(trained: Weights) -> None:
    """Its threshold is the quantile of reconstruction errors of the retain rows, from scratch."""
    spec = small_spec(1, rows=600)
    request = ForgetRequest.of_samples({0: range(100)}, {0: 600})
    method = LafVae(ClosedForm(), represent=Represent(latent=4, most_rows=None), represent_rounds=3)
    rounds = rounds_of(method, spec, trained, request)
    assert [record.phase for record in rounds.records] == [
        "features", "represent", "represent", "represent", "thresholds", "targets",
    ]  # fmt: skip
    federation = build(spec.federation)
    model = spec.model.build(federation.dataset.shape, 10, 0).eval()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in trained.items()})
    h = build_vae(32, 4, "linear", 0)
    h.load_state_dict({k: torch.from_numpy(v) for k, v in rounds.state.aux["h"].items()})
    with torch.no_grad():
        x = federation.client(0).inputs(range(100)).x
        e = model.extractor(as_input(x, torch.device("cpu")))
        errors = laf_losses.reconstruction_error(h(e), "mean")
    assert torch.allclose(h.shift, e.mean(0), atol=1e-5)
    assert torch.allclose(h.scale, e.std(0, correction=0).where(e.std(0) > 1e-6, torch.ones(32)), atol=1e-4)
    assert rounds.state.aux["threshold"] == pytest.approx(float(errors.quantile(0.95)), rel=0.03)
    assert rounds.cost.vae_passes == 3 * 500
    assert rounds.cost.labels_read == rounds.cost.gradient_passes == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"density": "gaussian"}, "represent.density: expected vae"),
     ({"most_rows": 20}, "represent.most_rows: expected null"),
     ({"rows": "all", "most_rows": None}, "represent.rows: expected retain")],
)  # fmt: skip
def test_a_vae_of_other_rows_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        LafVae(represent=Represent(**settings))


# ---- Adam steps after the solution


def test_adam_goes_on_toward_the_targets_from_the_solution(trained: Weights) -> None:
    spec = small_spec(4, rows=600)
    request = ForgetRequest.of_samples({0: range(150), 1: range(40)}, dict.fromkeys(range(4), 150))
    steps = Alignment(lr=1e-4, steps=20)
    rounds = rounds_of(LafHybrid(ClosedForm(), align=steps, align_rounds=4), spec, trained, request)
    align = [record for record in rounds.records if record.phase == "align"]
    assert len(align) == 4
    assert align[0].asked == (0, 1, 2, 3)
    toward = [record.numbers["distance_to_target_forget"] for record in align]
    assert toward[-1] < toward[0]
    changed = {k for k in trained if not np.array_equal(trained[k], rounds.state.weights[k])}
    assert changed == {k for k in trained if k.startswith("extractor")}
    assert rounds.cost.labels_read == 0
    assert rounds.cost.gradient_passes > 0


def test_adam_that_hardly_moves_leaves_the_solution(trained: Weights) -> None:
    spec = small_spec(4, rows=600)
    request = ForgetRequest.of_clients([0], build(spec.federation).sizes)
    plain = rounds_of(Laf(ClosedForm()), spec, trained, request).state.weights
    steps = Alignment(lr=1e-9, steps=1)
    found = rounds_of(LafHybrid(ClosedForm(), align=steps, align_rounds=1), spec, trained, request)
    assert furthest(plain, found.state.weights) < 1e-6


def test_who_holds_too_few_forget_rows_takes_no_part_in_steps(trained: Weights) -> None:
    """Their targets are not known: such a client was not asked for them."""
    spec = small_spec(4, rows=600)
    request = ForgetRequest.of_samples({0: range(150), 1: range(4)}, dict.fromkeys(range(4), 150))
    rounds = rounds_of(LafHybrid(ClosedForm(), align_rounds=1), spec, trained, request)
    assert [r.asked for r in rounds.records if r.phase in ("shift", "align")] == [(0, 2, 3), (0, 2, 3)]


# ---- repair


def test_repair_goes_no_step_back_to_the_model_from_before(trained: Weights) -> None:
    spec = small_spec(4, rows=600)
    request = ForgetRequest.of_clients([0], build(spec.federation).sizes)
    left = rounds_of(Laf(), spec, trained, request).state.weights
    away = difference(left, trained)
    along = {}
    for one_way in (False, True):
        method = LafRepair(repair=Fit(lr=1e-2, labels=1.0), one_way=one_way)
        repaired = rounds_of(method, spec, trained, request).state.weights
        along[one_way] = inner(difference(repaired, left), away)
    assert along[False] < 0  # repair would go back
    assert abs(along[True]) < 1e-6 * inner(away, away)
