"""Costs: rows that were read count once, peaks of memory are those of their time."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from support.federations import RecordingGrid, enrolled, initial_weights, small_spec

from fedlaf.client import ClientSpec
from fedlaf.core.cost import Cost
from fedlaf.core.request import ForgetRequest
from fedlaf.data import LabelledRows, RowAccessLog
from fedlaf.method.contract import ClientRegistry, Stage
from fedlaf.objectives.classification import Fit
from fedlaf.objectives.laf import Represent
from fedlaf.protocol.row_counts import DistinctRowCounter, TaggedGrid
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.laf_adam import LafAdam

MB = 1_000_000


# ---- rows that log when they are read


def test_only_rows_whose_inputs_are_taken_are_logged() -> None:
    access_log = RowAccessLog.empty(10)
    rows = LabelledRows(torch.arange(10).view(10, 1, 1, 1), torch.arange(10)).logged_in(access_log)
    few = rows.at(torch.tensor([8, 2, 5, 1]))
    assert len(few) == 4
    assert not access_log.marks.any()
    assert few.at(torch.tensor([0, 3])).unlabelled().at(torch.tensor([1, 1])).x.flatten().tolist() == [1, 1]
    assert access_log.marks.nonzero().flatten().tolist() == [1]
    mask = torch.zeros(4, dtype=torch.bool)
    mask[2] = True
    assert few.at(mask).x.flatten().tolist() == [5]
    assert rows.at(mask.repeat(3)[:10]).x.flatten().tolist() == [2, 6]
    assert access_log.marks.nonzero().flatten().tolist() == [1, 2, 5, 6]
    assert rows.x.shape[0] == access_log.marks.sum() == 10


# ---- on the clients


def read(cost: Cost) -> tuple[float, float]:
    return cost.retain_rows_read, cost.forget_rows_read


def trained(
    spec: ClientSpec, rounds: int, fit: Fit, registry: ClientRegistry, grid: object, run: str
) -> Cost:
    stage = Stage("train", 0, registry)
    return FedAvg(rounds, fit=fit).run(TaggedGrid(grid, run), initial_weights(spec), stage).cost  # type: ignore[arg-type]


def test_training_reads_each_row_once_however_many_rounds_and_epochs() -> None:
    spec = small_spec(rows=80)
    grid, registry = enrolled(spec)
    assert read(trained(spec, 2, Fit(epochs=2), registry, grid, "train")) == (80, 0)
    # Retraining has the same streams as training, and is another run: it counts anew.
    left = ClientRegistry(
        registry.nodes, registry.sizes, removed=ForgetRequest.of_clients([1], registry.sizes)
    )
    assert read(trained(spec, 2, Fit(), left, grid, "retrain-1")) == (60, 0)
    # Whoever has read all of its rows has nothing to remember.
    assert not any(context.state for context in grid.contexts.values())  # type: ignore[attr-defined]


def test_parts_add_up_to_what_was_read() -> None:
    spec = small_spec(rows=80)
    grid, registry = enrolled(spec)
    few = [
        trained(spec, rounds, Fit(share=0.5, batch_size=10), registry, grid, f"run-{rounds}")
        for rounds in (1, 4)
    ]
    assert read(few[0]) == (40, 0)
    assert 40 < read(few[1])[0] <= 80


def test_the_counter_counts_what_is_more_than_before() -> None:
    counter = DistinctRowCounter()
    reported = [(3, 0), (5, 2), (4, 2), (5, 9)]
    counted = [
        counter.counted(7, Cost(retain_rows_read=r, forget_rows_read=f, rounds=1)) for r, f in reported
    ]
    assert [read(c) for c in counted] == [(3, 0), (2, 2), (0, 0), (0, 7)]
    assert read(counter.counted(8, Cost(retain_rows_read=3))) == (3, 0)
    assert counted[1].rounds == 1


def test_a_share_of_labels_reads_a_share_of_the_rows() -> None:
    spec = small_spec(rows=80)
    grid, registry = enrolled(spec)
    cost = trained(spec, 3, Fit(labels=0.25), registry, grid, "train")
    assert read(cost) == (20, 0)
    assert cost.labels_read == 60


def test_forgetting_reads_the_forget_rows_and_of_the_others_what_it_is_allowed() -> None:
    spec = small_spec(rows=80)
    grid, registry = enrolled(spec)
    request = ForgetRequest.of_samples({0: list(range(7)), 2: [3]}, registry.sizes)
    asked = ClientRegistry(registry.nodes, registry.sizes, request)
    method = LafAdam(represent=Represent(density="gaussian", rows="retain", most_rows=5))
    recording = RecordingGrid(grid)
    result = method.run(
        TaggedGrid(recording, "request-1"), initial_weights(spec), Stage("request-1", 0, asked)
    )
    assert read(result.cost) == (20, 8)  # of four clients, five each
    assert result.cost.rows_read == 28
    # Which rows they were stays with the clients.
    for reply in recording.replies:
        assert not reply.content.config_records
        assert all(isinstance(number, float) for number in reply.content["numbers"].values())
    assert any(context.state.config_records for context in grid.contexts.values())  # type: ignore[attr-defined]
    assert all(m.content.config_records["order"]["run"] == "request-1" for m in recording.sent)


def test_a_tagged_grid_is_the_inner_one() -> None:
    grid, _ = enrolled(small_spec(rows=80))
    tagged = TaggedGrid(grid, "x")
    assert list(tagged.get_node_ids()) == list(grid.get_node_ids())
    assert tagged.run is grid.run


# ---- memory


PEAKS = """
import numpy as np
from fedlaf.core.memory import Peak
taken = lambda size: np.ones(size // 8)
with Peak() as idle:
    pass
with Peak() as outer:
    taken(30_000_000)
    with Peak() as inner:
        taken(90_000_000)
    with Peak() as after:
        pass
print(idle.bytes, outer.bytes, inner.bytes, after.bytes)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a peak cannot be forgotten")
def test_a_peak_is_that_of_its_own_time_and_reaches_those_around_it() -> None:
    """In a process of its own: memory that earlier work left free would be taken without a new peak."""
    told = subprocess.run([sys.executable, "-c", PEAKS], check=True, capture_output=True, text=True).stdout
    idle, outer, inner, after = map(int, told.split())
    assert inner - after > 70 * MB
    assert outer == inner
    assert idle < inner
    assert 10 * MB < after < 64_000 * MB


def test_clients_report_their_peak() -> None:
    spec = small_spec(rows=80)
    grid, registry = enrolled(spec)
    cost = trained(spec, 1, Fit(), registry, grid, "train")
    assert cost.client_memory > 10 * MB
    assert cost.gpu_memory == 0
