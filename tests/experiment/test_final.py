"""A withdrawal is final: the client is not asked again; with `erase`, nothing of its influence stays."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from safetensors.numpy import load_file
from support.federations import RecordingGrid
from support.runs import Exchanges, StagesRun, composed, same_weights, until_killed

from fedlaf.core.errors import RoundFailed
from fedlaf.core.weights import weights_digest
from fedlaf.experiment import pipeline
from fedlaf.experiment.ledger import verify
from fedlaf.experiment.plan import Plan, prepare
from fedlaf.protocol.withdrawal import WithdrawalGuard
from fedlaf.report import Report
from fedlaf.simulation import flower_compat

BASE = (
    "data=digits", "data.train_rows=150", "data.test_rows=40", "model=small_cnn", "clients=3",
    "corruption=none", "engine=inline", "train.rounds=3", "evaluation.curve_rows=10",
    "history=[updates,last,magnitudes,models]",
)  # fmt: skip
LEAVES = "{_target_: fedlaf.data.WithdrawClients, clients: [%d], round: %d}"
TWO_LEAVE = f"requests=[{LEAVES % (0, 1)},{LEAVES % (2, 2)}]"


def plan(*overrides: str, method: str = "laf") -> Plan:
    return prepare(composed(*BASE, f"forget={method}", *overrides), method)


def run(of: Plan, folder: Path, *, go_on: bool = False) -> Report:
    return pipeline.run(of, folder, StagesRun(), go_on=go_on)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report, list[Exchanges]]:
    """A run with two withdrawals, erased; its folder, its report, and all that was sent."""
    folder = tmp_path_factory.mktemp("erased")
    with Exchanges.recorded() as sent:
        report = run(plan(TWO_LEAVE, "erase=true"), folder)
    return folder, report, sent


def node(client: int) -> int:
    return flower_compat.FIRST_NODE + client


def test_no_message_goes_to_a_client_after_its_withdrawal(erased: tuple[Path, Report, Exchanges]) -> None:
    _, _, sent = erased
    names = list(dict.fromkeys(sent.stages))
    assert names == ["", "train", "request-1", "retrain-1", "train-from-1", "request-2", "retrain-2",
                     "train-from-2", "retrain-end"]  # fmt: skip
    for client, served in ((0, "request-1"), (2, "request-2")):
        after = [i for i, stage in enumerate(sent.stages) if names.index(stage) > names.index(served)]
        assert after
        assert all(sent.nodes[i] != node(client) for i in after)
        assert node(client) in sent.nodes


def test_nothing_in_the_folder_holds_what_was_learned_of_it(
    erased: tuple[Path, Report, Exchanges], tmp_path: Path
) -> None:
    """Held against a run that erases nothing: which weights, updates and rows are still there?"""
    folder, _, _ = erased
    run(plan(TWO_LEAVE), tmp_path)
    kept = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    stages = {name.removeprefix("stages/") for name in left if name.endswith(".safetensors")}
    # What client 2 was in goes with it too: the first unlearned and retrained models among it.
    models = {"request-2", "retrain-2", "train-from-2", "retrain-end"}
    assert {name.split(".")[0] for name in stages if name.count(".") == 1 and "/" not in name} == models
    assert not [name for name in left if "client-0000" in name or "client-0002" in name]
    assert {name for name in kept if "client-0001" in name} == {
        name for name in left if "client-0001" in name
    }
    # Of the models between rounds, the first alone has seen no client.
    between = [name for name in left if "/models/" in name and name.endswith(".safetensors")]
    assert between == ["stages/train.history/models/round-0001/model.safetensors"]
    assert not [name for name in left if name.endswith((".curve.safetensors", ".clients.safetensors"))]
    assert not [name for name in left if re.match(r"stages/request-[12]-.*predictions", name)]
    # The arrays themselves: no file of any name has the bytes of an array of a model from before.
    before = {name: load_file(tmp_path / "stages" / f"{name}.safetensors") for name in ("train", "request-1")}
    arrays = [array for weights in before.values() for array in weights.values() if array.size > 8]
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(array.tobytes() in content for array in arrays), path


def test_indices_of_updates_name_only_who_stays(erased: tuple[Path, Report, Exchanges]) -> None:
    folder, _, _ = erased
    indices = [json.loads(path.read_text()) for path in folder.rglob("*.history/**/index.json")]
    assert indices
    assert all(set(index["rows"]) == set(index.get("norms", index["rows"])) == {"1"} for index in indices)


def test_the_page_draws_no_row_of_it(erased: tuple[Path, Report, Exchanges]) -> None:
    _, report, _ = erased
    assert [result.view.values for result in report.results[:2]] == [{}, {}]
    assert all(point.represented is None for point in report.curves)
    assert report.partition == {}


def test_an_erased_run_is_verified_and_says_what_is_gone(erased: tuple[Path, Report, Exchanges]) -> None:
    folder, _, _ = erased
    found = verify(folder)
    assert found.fault == ""
    assert (found.models, found.erased) == (1, 3)  # request-2; train, request-1, train-from-1


@pytest.mark.parametrize("exchange", [6, 9, 12])
def test_an_erased_run_that_was_killed_goes_on(
    exchange: int, erased: tuple[Path, Report, Exchanges], tmp_path: Path
) -> None:
    folder, whole, _ = erased
    of = plan(TWO_LEAVE, "erase=true")
    until_killed(of, tmp_path, exchange)
    with Exchanges.recorded() as sent:
        again = run(of, tmp_path, go_on=True)
    assert same_weights(tmp_path, folder)
    assert [r.models for r in again.results] == [r.models for r in whole.results]
    assert again.curves == whole.curves
    assert verify(tmp_path).fault == ""
    if "erased" in (tmp_path / "ledger.jsonl").read_text().split("resumed")[0]:
        assert node(0) not in sent.nodes  # not even to enrol


def test_a_run_that_would_ask_it_again_is_refused_in_a_line(tmp_path: Path) -> None:
    of = plan(method="fine_tune")
    run(of, tmp_path)
    (tmp_path / "stages" / "train.safetensors").write_bytes(b"damaged")
    with pytest.raises(
        RoundFailed, match=r"^train is refused: it would ask client 0, .*request-1"
    ) as refused:
        run(of, tmp_path, go_on=True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "overrides", [(), ("request.clients=[0]", "train.rounds=4"), ("request.clients=[1]",)]
)
def test_a_run_that_resumes_an_erased_one_is_refused(
    overrides: tuple[str, ...], erased: tuple[Path, Report, Exchanges], tmp_path: Path
) -> None:
    folder, _, _ = erased
    of = plan(f"resume={folder}", *overrides)
    with pytest.raises(RoundFailed, match=r"train is refused: it would ask client 0"):
        run(of, tmp_path)


def test_a_report_says_that_a_model_was_erased(erased: tuple[Path, Report, Exchanges]) -> None:
    _, report, _ = erased
    with pytest.raises(LookupError, match="it was erased"):
        report.weights("original", request=0)
    assert weights_digest(report.weights("unlearned", request=1))


def test_late_replies_are_refused() -> None:
    sent: list[Message] = []

    class Late(RecordingGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            return sent

    from support.engines import enrolment_messages
    from support.federations import enrolled, small_spec

    grid, registry = enrolled(small_spec(3, rows=60))
    sent += grid.send_and_receive(enrolment_messages(grid))  # type: ignore[arg-type]
    guard = WithdrawalGuard(Late(grid))
    guard.withdraw({1: registry.nodes[1]})
    taken = [reply.metadata.src_node_id for reply in guard.send_and_receive([])]
    assert taken == [registry.nodes[0], registry.nodes[2]]
    assert guard.refused == 1
    with pytest.raises(RoundFailed, match="refused: client 1 has withdrawn, no message goes to it"):
        list(guard.send_and_receive(enrolment_messages(grid)))  # type: ignore[arg-type]
    assert list(guard.get_node_ids()) == [registry.nodes[0], registry.nodes[2]]
    guard.admit([registry.nodes[1]])  # it came back, as somebody new
    assert len(list(guard.get_node_ids())) == 3
