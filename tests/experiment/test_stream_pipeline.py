"""Whole runs over a stream: what they share with plain runs bit for bit, and who is never asked again."""

from __future__ import annotations

import gc
import json
import os
import tracemalloc
from collections import Counter
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.federations import same_bits
from support.runs import run_plan
from support.streams import SMALL, Ran, composed, plan_of, run_stream

from fedlaf.core.errors import InvalidValue
from fedlaf.experiment.plan import prepare
from fedlaf.experiment.stream.state import StreamState
from fedlaf.experiment.stream.trace import read

pytestmark = pytest.mark.xdist_group("streams")
PLAIN = [key for key in SMALL if not key.startswith("stream.")]


def plain_run(folder: Path, *overrides: str) -> None:
    run_plan(prepare(composed(*PLAIN, *overrides), "laf"), folder)


def saved(folder: Path, stage: str) -> bytes:
    return (folder / "stages" / f"{stage}.safetensors").read_bytes()


def test_without_requests_it_is_a_plain_run_bit_for_bit(tmp_path: Path) -> None:
    plain_run(tmp_path / "plain", "requests=[]")
    ran = run_stream(tmp_path / "stream", [])
    assert saved(tmp_path / "plain", "train") == saved(tmp_path / "stream", "train")
    assert ran.report.results == ()
    assert ran.stream["counts"]["issued"] == 0
    assert ran.stream["backlog"] == [0] * 5


def test_a_batch_of_one_is_a_single_request_bit_for_bit(tmp_path: Path) -> None:
    withdraws = "requests=[{_target_: fedlaf.data.WithdrawClients, clients: [1], round: 2}]"
    plain_run(tmp_path / "plain", withdraws)
    run_stream(tmp_path / "stream", [{"id": "a", "client": 1, "issued": 2}], "stream.prefixes=[1]")
    for stage in ("train", "request-1", "retrain-1", "train-from-2", "retrain-end"):
        assert saved(tmp_path / "plain", stage) == saved(tmp_path / "stream", stage), stage


BURST = [
    {"id": "a", "client": 1, "issued": 2, "deadline": 4},
    {"id": "b", "client": 4, "issued": 2, "scope": "rows", "rows": [3, 5]},
    {"id": "c", "client": 0, "issued": 2, "scope": "classes", "classes": [2, 7]},
]


def test_the_order_inside_a_window_changes_no_bit(tmp_path: Path) -> None:
    first, other = (run_stream(tmp_path / name, lines) for name, lines in (("a", BURST), ("b", BURST[::-1])))
    for stage in ("request-1", "train-from-2", "retrain-end"):
        assert same_bits(first.weights(stage), other.weights(stage))
    assert [b["requests"] for b in first.stream["batches"]] == [["a", "b", "c"]]
    assert first.request("b")["together"] == ["a", "c"]


MIXED = [
    {"id": "a", "client": 1, "issued": 1},
    {"id": "b", "client": 4, "issued": 1, "scope": "rows", "rows": [3, 5], "leaver": "refuses"},
    {"id": "c", "client": 0, "issued": 2, "scope": "classes", "classes": [2, 7]},
    {"id": "d", "client": 2, "issued": 2, "leaver": "offline", "offline": [2, 3]},
    {"id": "e", "client": 5, "issued": 3, "leaver": "gone"},
    {"event": "return", "id": "f", "client": 1, "issued": 3, "consent": "asked and given"},
]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The model tells classes apart after a round, so that a client that leaves takes something with it."""
    keys = ("stream.prefixes=[2]", "forget@stream.fallback=fine_tune", "stream.fallback.rounds=1")
    return run_stream(tmp_path_factory.mktemp("mixed"), MIXED, "train.fit.lr=1e-2", *keys)


def test_each_request_is_served_by_the_method_that_can(mixed: Ran) -> None:
    by = {name: (found["method"], found["fallback"]) for name in "abcde" if (found := mixed.request(name))}
    fallback = ("FineTune", True)
    laf = ("laf", False)
    assert by == {"a": laf, "b": fallback, "c": laf, "d": laf, "e": fallback}
    assert mixed.request("d")["started_round"] == 3  # it was waited for
    assert mixed.stream["counts"]["completed"] == 5
    assert mixed.stream["counts"]["by_fallback"] == 2


def test_rows_of_requests_that_have_ended_are_never_touched_again(mixed: Ran) -> None:
    """Whatever is sent to a client after its request ended leaves out the rows: in training, in the services
    of others, and in retraining; only the identity that came back is trained on again.
    """
    state, seen = mixed.pipeline.state, Counter[str]()
    for client, order, ended in mixed.sent_when():
        for place, outcome in enumerate(state.outcomes):
            asked = outcome.request
            if asked.client != client or ended <= place:
                continue
            seen[asked.id] += 1
            if asked.scope == "client":
                # Client 1 came back: its node is asked as another identity, which holds all rows again.
                assert (client, order.rows.removed) == (1, ()), (asked.id, order.stage, order.phase)
                continue
            gone = set(mixed.pipeline.roll.meant(asked).rows[client])
            assert gone <= set(order.rows.removed), (asked.id, order.stage, order.phase)
            assert not gone & set(order.rows.forget)
    assert set(seen) == {"a", "b", "c"}  # nothing at all was sent to those that left and did not come back
    assert min(seen.values()) > 3


def test_a_withdrawn_client_gets_no_message_while_it_waits_or_after(mixed: Ran) -> None:
    """Of client 2 that is offline in round 2, and of client 5 that is gone from round 3 on."""
    for client, last_round in ((2, 2), (5, 3)):
        trained = [o for c, o in mixed.instructions() if c == client and o.stage == "train"]
        assert max(o.round for o in trained) == last_round
    last = [order for client, order, ended in mixed.sent_when() if client == 5][-1]
    assert last.stage != mixed.request("e")["stage"]  # the fallback did without it


def test_who_comes_back_is_trained_as_a_new_identity(mixed: Ran) -> None:
    assert mixed.stream["identities"] == {"6": 1}
    assert mixed.stream["consents"] == {"6": "asked and given"}
    segment = mixed.stream["segments"][-1]
    assert segment["kind"] == "training"
    assert mixed.stream["passes"]["training"]["6"] == 40  # one round on its 40 rows
    assert mixed.stream["passes"]["training"]["1"] == 40  # the round before it left


def test_the_ledger_is_told_of_each_request_once(mixed: Ran) -> None:
    assert sorted(record.id for record in mixed.records) == list("abcde")
    for record in mixed.records:
        assert record.weights_before != record.weights_after
        assert record.stage == mixed.request(record.id)["stage"]
        assert record.phases
    chain = [(r.stage, r.weights_before, r.weights_after) for r in mixed.records]
    assert all(one[0] != two[0] or one[1:] == two[1:] for one, two in pairwise(chain))


def test_the_state_and_the_trace_are_in_the_folder(mixed: Ran) -> None:
    folder = mixed.pipeline.store.folder.parent / "stream"
    assert StreamState.of(json.loads((folder / "state.json").read_text())) == mixed.pipeline.state
    assert list(read(folder / "trace.jsonl")) == list(mixed.pipeline.state.events)


def test_the_model_is_held_against_the_retrained_one_at_prefixes_and_at_the_end(mixed: Ran) -> None:
    prefixes = mixed.stream["prefixes"]
    assert [p["result"] for p in prefixes] == [mixed.request("b")["stage"], "end"]
    end = mixed.report.results[-1]
    assert end.measure("gap", "retrained") == 0
    assert end.costs["unlearned"].passes == sum(
        b["cost"]["gradient_passes"] + b["cost"]["forward_passes"] for b in mixed.stream["batches"]
    )
    assert set(mixed.stream["sightings"]) == set("abcde")
    assert set(prefixes[-1]["by_client"]) == {"0", "3", "4", "6"}


def test_what_nobody_can_serve_is_refused_and_its_rows_rest(tmp_path: Path) -> None:
    trace = [{"id": "a", "client": 1, "issued": 1, "leaver": "refuses", "deadline": 3}]
    ran = run_stream(tmp_path, trace, "stream.fallback=null")
    found = ran.request("a")
    assert found["status"] == "refused"
    assert "the forgetting clients online" in found["reason"]
    assert found["exposure"] == ran.stream["elapsed"] - 1 == 3
    assert found["missed_deadline"]
    assert ran.stream["counts"]["refused"] == 1
    rounds = [order.round for client, order in ran.instructions() if client == 1 and order.stage == "train"]
    assert max(rounds) == 1
    (record,) = ran.records
    assert record.weights_before == record.weights_after


def test_a_method_that_stops_its_request_gives_way_to_the_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedlaf.client.steps import targets

    def broken(*_: object) -> None:
        raise ValueError("out of luck")

    monkeypatch.setattr(targets, "toward", broken)
    trace = [{"id": "a", "client": 1, "issued": 2}]
    ran = run_stream(tmp_path, trace, "forget=laf_adam", "forget.align_rounds=1")
    first, second = ran.stream["batches"]
    assert (first["status"], second["status"]) == ("failed", "completed")
    assert "out of luck" in first["reason"]
    assert ran.request("a")["method"] == "Retrain"
    assert ran.request("a")["stage"] == "request-2"


def test_training_that_goes_on_is_added_to_the_unlearned_model(tmp_path: Path) -> None:
    trace = [{"id": "a", "client": 1, "issued": 2}]
    ran = run_stream(tmp_path, trace, "stream.service.training=goes_on")
    found = ran.request("a")
    assert (found["started"], found["completed"], found["completed_round"]) == (2, 4, 4)
    assert ran.stream["elapsed"] == 4
    original, trained, unlearned = (ran.weights(s) for s in ("train", "train-from-2", "request-1"))
    for name, array in ran.weights("merged-1").items():
        expected = unlearned[name].astype(np.float64) + trained[name] - original[name].astype(np.float64)
        assert np.allclose(array, expected, atol=1e-6)
    assert same_bits(dict(sorted(ran.pipeline.weights.items())), ran.weights("merged-1"))
    asked = [order.round for client, order in ran.instructions() if client == 1 and order.stage == "train"]
    assert max(asked) == 2


def test_carrying_on_forgets_nothing_and_is_exposed_to_the_end(tmp_path: Path) -> None:
    ran = run_stream(tmp_path, [{"id": "a", "client": 1, "issued": 2}], "forget=carry_on")
    found = ran.request("a")
    assert (found["status"], found["forgotten"], found["time"], found["exposure"]) == (
        "completed", False, None, 2
    )  # fmt: skip
    assert ran.stream["counts"]["not_forgotten"] == 1
    rounds = [o.round for client, o in ran.instructions() if client == 1 and o.stage == "train"]
    assert max(rounds) == 2


def test_a_cancelled_client_is_trained_on_again(tmp_path: Path) -> None:
    trace = [
        {"id": "a", "client": 1, "issued": 1},
        {"event": "cancel", "id": "a", "issued": 2},
    ]
    ran = run_stream(tmp_path, trace, "stream.service.window.longest_wait=3")
    rounds = [o.round for client, o in ran.instructions() if client == 1 and o.stage == "train"]
    assert sorted(set(rounds)) == [1, 3, 4]  # in round 2 its rows rested
    assert ran.request("a")["status"] == "cancelled"
    assert ran.report.results == ()


def test_rows_are_trained_on_until_the_service_where_that_is_asked_for(tmp_path: Path) -> None:
    trace = [{"id": "a", "client": 1, "issued": 1}]
    keys = ("stream.service.window.longest_wait=2", "stream.service.until_served=train")
    ran = run_stream(tmp_path, trace, *keys)
    rounds = [o.round for client, o in ran.instructions() if client == 1 and o.stage == "train"]
    assert sorted(set(rounds)) == [1, 2, 3]


def test_a_run_takes_up_all_stages_of_the_same_stream(tmp_path: Path) -> None:
    first = run_stream(tmp_path / "a", MIXED[:3])
    again = run_stream(tmp_path / "b", MIXED[:3], f"resume={tmp_path / 'a'}")
    assert same_bits(first.pipeline.weights, again.pipeline.weights)


def test_later_training_is_not_taken_up_from_another_method(tmp_path: Path) -> None:
    """What is trained after a request starts from what the method left: of another, it is made again."""
    trace = [{"id": "a", "client": 1, "issued": 2}]
    run_stream(tmp_path / "a", trace)
    alone = run_stream(tmp_path / "b", trace, "forget=fine_tune", "forget.rounds=1")
    resumed = run_stream(
        tmp_path / "c", trace, "forget=fine_tune", "forget.rounds=1", f"resume={tmp_path / 'a'}"
    )
    assert same_bits(alone.weights("train-from-2"), resumed.weights("train-from-2"))
    assert same_bits(alone.pipeline.weights, resumed.pipeline.weights)


def test_many_requests_leave_neither_files_open_nor_memory_held(tmp_path: Path) -> None:
    """As benchmarks/streams.py over 200 requests: here over 14, and with what numpy and Python hold."""
    trace = [
        {"id": f"r{i}", "client": i % 6, "issued": i + 1, "scope": "rows", "rows": [i // 6]}
        for i in range(14)
    ]
    files: list[int] = []
    held: list[int] = []

    def note(record: object) -> None:
        gc.collect()
        files.append(len(os.listdir("/proc/self/fd")))
        held.append(tracemalloc.get_traced_memory()[0])

    import_module("sklearn.metrics")  # which measuring imports, once
    tracemalloc.start()
    try:
        run_stream(tmp_path, trace, "train.rounds=14", tell=note)
    finally:
        tracemalloc.stop()
    assert len(files) == 14
    assert files[-1] <= files[3]
    # Eleven models of 46 KB would be half a megabyte; what is said of a request is a few kilobytes.
    assert held[-1] - held[3] < 10 * 30_000


def test_an_adaptive_stream_is_repeated_by_its_trace(tmp_path: Path) -> None:
    keys = ("stream=adaptive", "stream.arrivals.choose.every=2", "stream.arrivals.choose.most=2")
    plan = prepare(composed(*keys, *(key for key in SMALL if "arrivals.file" not in key)), "laf")
    run_plan(plan, tmp_path / "a")
    events = read(tmp_path / "a" / "stream" / "trace.jsonl")
    assert len(events) == 2
    lines = [
        json.loads(line) for line in (tmp_path / "a" / "stream" / "trace.jsonl").read_text().splitlines()
    ]
    again = run_stream(tmp_path / "b", lines)
    last = json.loads((tmp_path / "a" / "stream" / "state.json").read_text())["weights"]
    assert saved(tmp_path / "a", last) == saved(tmp_path / "b", again.pipeline.state.weights)


@pytest.mark.parametrize(
    ("trace", "keys", "expected"),
    [
        ([{"id": "a", "client": 9, "issued": 1}], (), "client: expected client ids from 0 to 5"),
        ([{"id": "a", "client": 1, "issued": 9}], (), "issued: expected a training round from 1 to 4"),
        (
            [{"id": "a", "client": 1, "issued": 1, "scope": "rows", "rows": [99]}],
            (),
            "positions from 0 to 39",
        ),
        ([], ("forget@stream.fallback=scrub",), "fallback: expected a method that does not need"),
        ([], ("requests=[{_target_: fedlaf.data.WithdrawClients, clients: [1]}]",), "requests: expected"),
    ],
)
def test_what_cannot_be_run_is_named_before_anything_runs(
    trace: list[dict[str, object]], keys: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidValue) as error:
        plan_of(tmp_path, trace, *keys)
    assert expected in str(error.value)
