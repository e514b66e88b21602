"""The apps that `flwr run` loads: one key configures both, and they end with what the command line does."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import warnings
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.cli.config_utils import load_and_validate
from hydra.errors import HydraException
from support.runs import StagesRun, same_weights
from support.streams import keys_of, plan_of

from fedlaf import __main__ as entry
from fedlaf.core.errors import InvalidValue
from fedlaf.data import FashionSample, sample_file
from fedlaf.experiment import pipeline
from fedlaf.experiment.flower_app import client, server
from fedlaf.experiment.flower_app.composing import composed
from fedlaf.experiment.plan import spec_of
from fedlaf.protocol.messages import PARTITION, Instruction, decode_reply, encode_instruction
from fedlaf.simulation import InlineGrid, flower_compat
from fedlaf.simulation.flower_compat import FIRST_NODE

ROOT = Path(__file__).parent.parent.parent
SMALL = ["data=digits", "model=small_cnn", "corruption.backdoor.patch=2", "train.rounds=2",
         "evaluation.curve_rows=20", "clients=4"]  # fmt: skip


def grid_of(overrides: str, clients: int, own: str = "") -> InlineGrid:
    """Inline nodes with the ClientApp that Flower would load, in the contexts that it would give them."""
    grid = InlineGrid(client.app, clients)
    for k in range(clients):
        node = {PARTITION: k, "num-partitions": clients, "overrides": own}
        grid.contexts[FIRST_NODE + k] = Context(
            1, FIRST_NODE + k, node, RecordDict(), {"overrides": overrides}
        )  # type: ignore[arg-type]
    return grid


def run(overrides: str, clients: int = 4, own: str = "") -> None:
    context = Context(1, 1, {}, RecordDict(), {"overrides": overrides})
    server.app(grid_of(overrides, clients, own), context)


def test_what_a_method_cannot_do_is_said_before_it_is_paid_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As on the command line: LAF reads no label, so wrong ones are beyond it."""
    keys = ["data=digits", "model=small_cnn", "train.rounds=1", "evaluation.curve_rows=0", "clients=4",
            "corruption=wrong_labels", "request=remove_wrong_labels", "forget.rule.min_rows=1"]  # fmt: skip
    with caplog.at_level(logging.INFO, "flwr"):
        run(f"{' '.join(keys)} hydra.run.dir={tmp_path / 'flower'}")
    told = next(at for at, line in enumerate(caplog.messages) if "LAF reads none" in line)
    assert told < caplog.messages.index("fedlaf: train, 1 rounds, 4 clients")


def test_the_apps_give_the_run_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(f"{' '.join(SMALL)} hydra.run.dir={tmp_path / 'flower'}")
    words = ["fedlaf", *SMALL, "engine=inline", f"hydra.run.dir={tmp_path / 'line'}"]
    monkeypatch.setattr(sys, "argv", words)
    entry.main()
    for stage in ("train", "request-1", "retrain-1"):
        one, other = (tmp_path / name / "stages" / f"{stage}.safetensors" for name in ("flower", "line"))
        assert one.read_bytes() == other.read_bytes()
    left = [{str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob("*")}
            for name in ("flower", "line")]  # fmt: skip
    assert left[0] | {"run.log"} == left[1]  # Flower has a log of its own
    one, other = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("flower", "line"))
    assert one["requests"][0]["models"] == other["requests"][0]["models"]


def test_a_stream_is_served_too(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "client": 1, "issued": 1},
        {"id": "b", "client": 3, "issued": 2, "scope": "rows", "rows": [3, 5]},
    ]
    plan = plan_of(tmp_path, lines)
    pipeline.run(plan, tmp_path / "inline", StagesRun())  # type: ignore[arg-type]
    keys = keys_of(tmp_path / "requests.jsonl")
    run(f"{' '.join(keys)} hydra.run.dir={tmp_path / 'flower'}", clients=6)
    assert same_weights(tmp_path / "flower", tmp_path / "inline")
    traces = [(tmp_path / name / "stream" / "trace.jsonl").read_bytes() for name in ("flower", "inline")]
    assert traces[0] == traces[1]


def test_the_log_says_when_a_node_is_asked_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "flwr"):
        run(f"{' '.join(SMALL)} train.rounds=1 request.clients=[1] hydra.run.dir={tmp_path}")
    told = [message for message in caplog.messages if message.startswith("fedlaf: ")]
    assert told == [
        "fedlaf: train, 1 rounds, 4 clients",
        "fedlaf: request-1, 2 rounds, 4 clients",
        "fedlaf: client 1 is forgotten, its node is asked no more: 1002",
        "fedlaf: retrain-1, 1 rounds, 3 clients",
    ]


WRONG = {
    "misspelt": ("train.rouds=3", "train.rouds: no such key 'rouds'; did you mean rounds?"),
    "value": ("train.rounds=-1", "train.rounds: expected a whole number of at least 1, got -1"),
    "option": ("data=foo", "data: expected one of cifar10, digits, fashion_mnist"),
    "quotes": ("request.clients='[0]", "overrides: expected overrides in the words of a shell (No closing"),
    "no override": ("foo", "missing EQUAL"),
}


@pytest.mark.parametrize(("overrides", "line"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_override_ends_the_run_in_one_line(overrides: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(server.Refused) as refused:
        run(f"hydra.run.dir={tmp_path / 'out'} {overrides}")
    assert str(refused.value).startswith("fedlaf: error: ")
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_flower_reports_that_line_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logger, handler = logging.getLogger("flwr"), logging.StreamHandler(sys.stderr)
    filters = list(logger.filters)
    logger.addHandler(handler)
    try:
        flower_compat.in_one_line(server.Refused)
        for error in (server.Refused("data: expected more"), ValueError("of another kind")):
            try:
                raise error
            except Exception as raised:
                logger.error("%s raised an exception", "ServerApp", exc_info=raised)
    finally:
        logger.removeHandler(handler)
        logger.filters[:] = filters
    shown = capsys.readouterr().err
    assert shown.startswith("fedlaf: error: data: expected more\nServerApp raised an exception\nTraceback")
    assert shown.count("Traceback") == 1


def test_a_node_with_other_rows_is_noticed_at_enrolment(tmp_path: Path) -> None:
    """The node finds fewer rows than the server takes it to hold: nothing is trained on that."""
    with pytest.raises(server.Refused, match=r"client 0 holds 100 rows where 36. were expected"):
        run(f"{' '.join(SMALL)} hydra.run.dir={tmp_path}", own="data.train_rows=400")
    assert not (tmp_path / "stages").exists()


def test_a_node_may_not_override_what_is_not_its_own(tmp_path: Path) -> None:
    expected = r"a node could not enrol: InvalidValue: overrides of a node: expected data or device"
    with pytest.raises(server.Refused, match=expected):
        run(f"{' '.join(SMALL)} hydra.run.dir={tmp_path}", own="train.rounds=9")


def test_there_are_as_many_clients_as_nodes_unless_the_overrides_say_otherwise() -> None:
    def clients(*overrides: str) -> int:
        return int(composed(*overrides, nodes=3)[0].clients)

    assert clients("") == clients("seed=1", "data=digits") == 3
    assert clients("clients=5") == 5
    assert clients("experiment=paper/data_removal") == 1
    assert composed("seed=1")[0].clients == 10


def test_a_client_learns_the_federation_of_the_run() -> None:
    overrides = "data=digits model=small_cnn corruption=none partition=dirichlet seed=7"
    grid = grid_of(overrides, 3)
    told = encode_instruction(Instruction({}, {}, 0, "enrol", 0))
    asked = [Message(told, node, "query.enrol") for node in grid.get_node_ids()]
    rows = [int(decode_reply(m, -1).numbers["rows"]) for m in grid.send_and_receive(asked)]
    from fedlaf.data.federation import build

    assert rows == list(build(spec_of(composed(overrides, "clients=3")[0]).federation).sizes.values())


def test_hydras_own_section_is_given_apart() -> None:
    config, hydra = composed("hydra.run.dir=/somewhere forget=laf_paper")
    assert "hydra" not in config
    assert (hydra.run.dir, hydra.runtime.choices.forget) == ("/somewhere", "laf_paper")
    with pytest.raises(HydraException):
        composed("nonsense")


def test_flower_takes_this_folder_for_an_app() -> None:
    """What `flwr run .` packs: the code and conf/, nothing of tests and data, well below the limit."""
    config, missing = load_and_validate(ROOT / "pyproject.toml")
    assert not missing
    assert config["tool"]["flwr"]["app"]["config"] == {"overrides": ""}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "GitWildMatchPattern", DeprecationWarning)
        packed = build_fab_from_disk(ROOT)
    assert len(packed) < 2**21  # Flower takes 10 MB
    names = set(zipfile.ZipFile(BytesIO(packed)).namelist())
    assert {
        "pyproject.toml",
        "fedlaf/experiment/flower_app/client.py",
        "strategies/laf_adam.py",
        "conf/config.yaml",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]
    assert not [name for name in names if name.endswith(".npz")]


def test_a_copy_without_data_finds_the_sample_where_the_package_is_installed(tmp_path: Path) -> None:
    """As Flower runs an app: from a folder of its own, ahead of the installed package."""

    shutil.copytree(
        ROOT / "fedlaf", tmp_path / "fedlaf", ignore=shutil.ignore_patterns("*.npz", "__pycache__")
    )
    script = "import fedlaf.data as d; print(d.__file__, len(d.FashionSample().load().train))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {[str(tmp_path), str(ROOT)]!r}; {script}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.split() == [str(tmp_path / "fedlaf" / "data" / "__init__.py"), "10000"], done.stderr


def test_a_sample_that_is_nowhere_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"root: expected a folder with fashion_sample.npz, got '"):
        FashionSample(root=str(tmp_path)).prepare()
    monkeypatch.setattr(sample_file, "SAMPLE", "nowhere.npz")
    with pytest.raises(InvalidValue, match=r"root: expected fedlaf installed here, with its nowhere.npz"):
        FashionSample().prepare()
