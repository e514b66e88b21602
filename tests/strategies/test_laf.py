"""LAF in closed form: exact in any federation, bounded in what it sends, refused where it cannot work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.closed_form import stage, trained_by, wide
from support.federations import (
    GarbageLabels,
    RecordingGrid,
    enrolled,
    furthest,
    same_bits,
    small_spec,
)

from fedlaf.client import ClientSpec
from fedlaf.core.errors import InvalidValue, RoundFailed
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import ClientId, Weights
from fedlaf.data import Digits, as_input
from fedlaf.data.federation import build
from fedlaf.method.contract import ClientRegistry, StageResult
from fedlaf.models import last_layer
from fedlaf.objectives import ClosedForm
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base.phase import Phase, ServerState
from fedlaf.strategies.laf import Laf
from fedlaf.strategies.laf_counts import LafCounts

ALL = Laf(ClosedForm(most_rows=None, secure_aggregation=True))
"""All rows count, so that nothing depends on who holds which."""


def run(method: Laf, spec: ClientSpec, weights: Weights, request: ForgetRequest) -> StageResult:
    grid, registry = enrolled(spec)
    return method.run(grid, weights, stage(spec, registry, request))


@pytest.fixture(scope="module")
def trained() -> Weights:
    """A model of the digits, a class of which is easily told, trained on rows with a mark of their own."""
    return trained_by(small_spec(1, rows=600))


def of_rows(spec: ClientSpec, rows: Sequence[int]) -> ForgetRequest:
    """A request for rows of the training set, whoever holds them."""
    federation = build(spec.federation)
    held = {k: np.flatnonzero(np.isin(part, rows)) for k, part in enumerate(federation.parts)}
    return ForgetRequest.of_samples({k: at.tolist() for k, at in held.items() if len(at)}, federation.sizes)


@pytest.mark.parametrize("clients", [2, 3, 7])
def test_any_partition_gives_the_centralised_solution(clients: int, trained: Weights) -> None:
    """Rows of a class that goes are outliers, so both parts of the solution are there."""
    found = []
    for count in (1, clients):
        spec = small_spec(count, rows=600, backdoor=None)
        rows = np.flatnonzero(build(spec.federation).dataset.train.y.numpy() == 3).tolist()
        found.append(run(ALL, spec, wide(trained), of_rows(spec, rows)).weights)
    weight = [name for name in trained if name.startswith("extractor")][-2]
    assert np.abs(found[0][weight] - trained[weight]).max() > 1e-3
    assert furthest(*found) < 1e-10


def test_the_solution_is_that_of_all_rows_together(trained: Weights) -> None:
    """Computed from scratch in one place: normal equations by least squares on stacked rows."""
    spec = small_spec(3, rows=600, backdoor=None)
    federation = build(spec.federation)
    request = of_rows(spec, range(120))
    found = run(ALL, spec, wide(trained), request).weights
    model = spec.model.build(federation.dataset.shape, 10, 0)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in trained.items()})
    x = as_input(federation.dataset.train.x, torch.device("cpu"))
    phi = torch.cat([last_layer.features(model.extractor, x), torch.ones(600, 1)], 1).double().numpy()
    names = [name for name in trained if name.startswith("extractor")][-2:]
    before, after = (np.column_stack([w[n] for n in names]) for w in (wide(trained), found))
    change = after - before
    # Without outliers no row has a target but its own: dW is 0 and only the bias follows the classes.
    assert np.abs(change[:, :-1]).max() < 1e-12
    shift = np.asarray(trained["head.weight"], float) @ change[:, -1]
    kept = np.isin(np.arange(600), range(120), invert=True)
    logits = model.double().head(torch.from_numpy(phi @ before.T)).detach().numpy()
    shares = shares_row_by_row(logits, kept)
    assert np.allclose(shift - shift.mean(), np.log(shares) - np.log(shares).mean(), atol=1e-6)


def shares_row_by_row(logits: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The share that stays of the surest rows of each predicted class, from rows sorted in one place. Rows of
    a level are alike, so the last ones that are needed count with their level's mean.
    """
    shares = []
    for label in range(logits.shape[1]):
        mine = logits.argmax(1) == label
        odds = logits[mine, label] - np.log(np.exp(np.delete(logits[mine], label, 1)).sum(1))
        level, stays = np.floor(odds * 4), kept[mine].astype(float)
        for same in np.unique(level):
            stays[level == same] = stays[level == same].mean()
        surest = np.argsort(-level)
        count = min(max(len(odds) / 4, 20), len(odds))
        weight = np.clip(count - np.arange(len(odds)), 0, 1)
        share = (weight @ stays[surest] + kept.mean()) / (count + 1)
        gone = count and weight @ stays[surest] / count < stays.mean() / 2
        shares.append(2.0**-24 if gone else share)
    return np.array(shares)


class Backwards(Laf):
    """The same with the replies in the other order."""

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        return super().aggregate(phase, state, replies[::-1])


def test_any_order_gives_the_same_bits(trained: Weights) -> None:
    spec = small_spec(5, rows=600)
    request = ForgetRequest.of_clients([0, 3], build(spec.federation).sizes)
    found = [run(method(ALL.rule), spec, trained, request).weights for method in (Laf, Backwards)]
    assert same_bits(*found)


def test_only_the_last_layer_of_the_extractor_changes(trained: Weights) -> None:
    spec = small_spec(4, rows=600)
    result = run(Laf(), spec, trained, ForgetRequest.of_clients([0], build(spec.federation).sizes))
    changed = [name for name in trained if not np.array_equal(trained[name], result.weights[name])]
    assert changed == [name for name in trained if name.startswith("extractor")][-2:]
    assert result.cost.gradient_passes == result.cost.labels_read == 0
    assert result.cost.rounds == 2


@pytest.fixture(scope="module")
def unmarked() -> Weights:
    """The same without the mark."""
    return trained_by(small_spec(1, rows=600, backdoor=None))


@pytest.mark.parametrize("gone", range(10))
def test_a_removed_class_goes(gone: int, unmarked: Weights) -> None:
    spec = small_spec(3, rows=600, backdoor=None)
    federation = build(spec.federation)
    rows = {k: np.flatnonzero(labels == gone).tolist() for k, labels in enumerate(federation.labels)}
    result = run(Laf(), spec, unmarked, ForgetRequest.of_samples(rows, federation.sizes))
    model = spec.model.build(federation.dataset.shape, 10, 0)
    test = federation.dataset.test
    right = []
    for weights in (unmarked, result.weights):
        model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
        predicted = model(as_input(test.x, torch.device("cpu"))).logits.argmax(1)
        right.append(
            [float((predicted == test.y)[(test.y == gone) == side].float().mean()) for side in (1, 0)]
        )
    assert right[1][0] == 0
    assert right[1][1] >= right[0][1] - 0.02


def test_counts_know_the_shares_exactly(trained: Weights) -> None:
    """With counted shares the head's logits change by log(r / (r + f)), up to a constant."""
    spec = small_spec(3, rows=600, backdoor=None)
    federation = build(spec.federation)
    request = of_rows(spec, range(120))
    found = run(LafCounts(ALL.rule), spec, wide(trained), request).weights
    bias = [name for name in trained if name.startswith("extractor")][-1]
    shift = trained["head.weight"].astype(float) @ (found[bias] - wide(trained)[bias])
    labels = federation.dataset.train.y.numpy()
    whole, kept = np.bincount(labels, minlength=10), np.bincount(labels[120:], minlength=10)
    expected = np.log(kept / whole)
    assert np.allclose(shift - shift.mean(), expected - expected.mean(), atol=1e-9)


def rows_behind(record: dict[str, np.ndarray]) -> list[float]:
    """Rows behind each sum of a reply that could be of few."""
    sums = ("features", "representations", "class_representations", "deviations")
    found = [record[name][-1] for name in sums if name in record and record[name].any()]
    if "sureness" in record:
        found.append(record["sureness"].sum())
    for name in ("classes", "kinds"):
        if name in record:
            found += [rows for rows in record[name][:, -1] if rows > 0]
    return found


@pytest.mark.parametrize("least", [5, 10])
def test_no_message_is_of_fewer_rows_than_the_floor(least: int, trained: Weights) -> None:
    """Over captured messages; clients with fewer rows of a kind are not asked for them."""
    spec = small_spec(6, rows=600)
    sizes = build(spec.federation).sizes
    request = ForgetRequest.of_samples({0: range(60), 1: range(97), 2: range(4), 3: range(12)}, sizes)
    grid, registry = enrolled(spec)
    wire = RecordingGrid(grid)
    method = Laf(ClosedForm(most_rows=None, min_rows=least))
    method.run(wire, trained, stage(spec, registry, request))
    contributed = [message.content.array_records[Part.STATISTICS] for message in wire.replies]
    behind = [rows_behind({k: v.numpy() for k, v in record.items()}) for record in contributed]
    assert min(rows for found in behind for rows in found) >= least - 1e-6
    assert max(len(found) for found in behind) > 3
    asked = {kind: set() for kind in ("features", "targets")}  # type: dict[str, set[int]]
    for message in wire.sent:
        step = message.metadata.message_type.removeprefix("train.laf_")
        if step in asked:
            asked[step].add(message.metadata.dst_node_id)
    nodes = registry.nodes
    assert asked["features"] == {nodes[k] for k in (0, 2, 3, 4, 5)}
    assert asked["targets"] == {nodes[k] for k in (0, 1, 3)}


class Curious(Laf):
    """A server that asks everybody, whatever they hold."""

    def select_clients(self, phase: Phase, state: ServerState, clients: list[ClientId]) -> list[ClientId]:
        return clients


def test_a_client_refuses_below_the_floor_whoever_asks(trained: Weights) -> None:
    spec = small_spec(4, rows=600)
    request = ForgetRequest.of_samples({0: range(60), 2: range(4)}, build(spec.federation).sizes)
    with pytest.raises(RoundFailed, match=r"client 2: .*min_rows: expected at most the 4 rows behind"):
        run(Curious(), spec, trained, request)


def test_a_request_of_too_few_rows_is_refused_beforehand() -> None:
    spec = small_spec(4, rows=600)
    sizes = build(spec.federation).sizes
    asked = ClientRegistry({}, sizes, ForgetRequest.of_samples({0: range(9), 2: range(4)}, sizes))
    with pytest.raises(InvalidValue, match=r"rule\.min_rows: expected at most the forget rows"):
        Laf().check(asked)
    ALL.check(asked)


def test_labels_are_unread(trained: Weights) -> None:
    """The same rows under garbage labels give the same bits."""
    found = []
    for source in (Digits(train_rows=400, test_rows=100), GarbageLabels(1), GarbageLabels(2)):
        spec = small_spec(4, backdoor=None, source=source)
        found.append(run(Laf(), spec, trained, ForgetRequest.of_clients([1], build(spec.federation).sizes)))
    assert same_bits(found[0].weights, found[1].weights)
    assert same_bits(found[0].weights, found[2].weights)
    assert not same_bits(found[0].weights, trained)
    assert all(result.cost.labels_read == 0 for result in found)


@pytest.mark.parametrize(
    ("key", "value"), [("outlier_quantile", 0), ("min_rows", 0), ("most_rows", 0), ("outlier_quantile", 0.6)]
)
def test_settings_are_checked(key: str, value: float) -> None:
    with pytest.raises(InvalidValue, match=key):
        ClosedForm(**{key: value})  # type: ignore[arg-type]


def test_what_it_cannot_do_is_said_before() -> None:
    sizes = {0: 100, 1: 4, 2: 50}
    registry = ClientRegistry({}, sizes, ForgetRequest.of_samples({0: range(20), 2: [3, 4]}, sizes))
    messages = [limit.message for limit in Laf().limits(registry)]
    assert messages == [
        "4 retain rows of 1 clients are left out: fewer than rule.min_rows=10 each",
        "2 forget rows of 1 clients are left out: fewer than rule.min_rows=10 each",
    ]
    (unseen,) = Laf(ClosedForm(min_rows=1)).limits(
        replace(registry, request=replace(registry.request, wrong_labels=True))
    )
    assert "forget=laf_repair" in unseen.message
    assert not unseen.fatal


def test_the_limits_are_findings_of_the_request(trained: Weights) -> None:
    spec = small_spec(1, rows=600)
    grid, registry = enrolled(spec)
    request = replace(ForgetRequest.of_samples({0: range(200)}, registry.sizes), wrong_labels=True)
    found = Laf().run(grid, trained, stage(spec, registry, request)).findings
    assert [finding.name for finding in found] == ["labels unseen"]
