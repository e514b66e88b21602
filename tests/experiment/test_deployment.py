"""A real deployment on loopback, started and stopped here: TLS, authentication, a true withdrawal."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import deployment, deployment_keys
from benchmarks.deployment_lab import Lab, Simulation
from benchmarks.deployment_processes import LabFailed, left_in

CLIENTS = 3
ONLINE = 2
BRIEF = (
    "data.train_rows=400 data.test_rows=100 train.rounds=2 forget=laf_adam forget.align_rounds=1 "
    f"forget.represent.most_rows=40 evaluation.curve_rows=0 request.clients=[{ONLINE}]"
)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    try:
        with Lab(tmp_path / "lab", CLIENTS, patience=deployment.PATIENCE) as lab:
            yield lab
    finally:
        assert left_in(tmp_path / "lab") == []  # whatever happened, no process is left


@pytest.mark.slow
@pytest.mark.xdist_group("deployment")
@pytest.mark.timeout(1500)
def test_a_client_withdraws_from_a_deployment(lab: Lab, tmp_path: Path) -> None:
    seen = deployment.observed(lab, BRIEF, tmp_path / "deployed")
    assert (seen.status, seen.details) == ("finished:completed", "N/A")
    refused = lab.comes_back(ONLINE)
    # The SuperNode, the SuperLink and the ServerApp count the same messages.
    for account in seen.accounts:
        assert account.asked == len(account.received) == account.answered > 0
        assert account.received[0] == "query.enrol"
    (left,) = seen.withdrawn
    # The request is closed before its node is unregistered, and the node hears of nothing afterwards.
    assert left.client == ONLINE
    assert (left.received[-1], left.late, left.status) == ("train.align", 0, "unregistered")
    stayed = [account for account in seen.accounts if account.client != ONLINE]
    assert {account.status for account in stayed} == {"online"}
    assert {account.received[-1] for account in stayed} == {
        "train.fit"
    }  # retraining, without the withdrawn client
    assert refused == "Failed to activate SuperNode."
    # What clients kept in their contexts has crossed processes: else no targets, and no equal bits.
    deployment.inline(BRIEF, CLIENTS, tmp_path / "inline")
    assert deployment.differing(tmp_path / "deployed", tmp_path / "inline") == []
    assert (tmp_path / "deployed" / "report.md").is_file()


@pytest.mark.slow
@pytest.mark.xdist_group("deployment")
@pytest.mark.timeout(900)
def test_flwr_run_simulates_and_a_wrong_override_fails_in_one_line(tmp_path: Path) -> None:
    """As many clients as simulated nodes; the bits of the inline engine; Flower's own word for a failure."""
    overrides = BRIEF.replace(f"[{ONLINE}]", "[0]")
    nodes = ("--federation-config", f"num-supernodes={CLIENTS} client-resources-num-cpus=1")
    with Simulation(tmp_path / "lab", patience=deployment.PATIENCE) as superlink:
        right = superlink.run(f"{overrides} hydra.run.dir={tmp_path / 'simulated'}", *nodes)
        deployment.inline(overrides, CLIENTS, tmp_path / "inline")
        report = tmp_path / "simulated" / "report.json"
        superlink.until("the report", lambda: report.is_file() or superlink.failed(), pause=0.5)
        assert not superlink.failed(), superlink.seats["log"].told[-3000:]
        superlink.until("its end", lambda: superlink.status(right)["status"] == "finished:completed")
        wrong = superlink.run("train.rouds=3", *nodes)
        superlink.until("the failure", superlink.failed, pause=0.5)
        superlink.until("its end", lambda: superlink.status(wrong)["status"] == "finished:failed")
        told = superlink.seats["log"].told
    assert deployment.differing(tmp_path / "simulated", tmp_path / "inline") == []
    assert "fedlaf: error: train.rouds: no such key 'rouds'; did you mean rounds?" in told
    assert "Traceback" not in told
    assert left_in(tmp_path / "lab") == []


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("deployment")
def test_what_does_not_start_is_reported_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rubbish(folder: Path, nodes: int, hosts: list[str]) -> None:
        folder.mkdir(parents=True)
        for name in ("ca.crt", "server.crt", "server.key"):
            (folder / name).write_text("rubbish")

    monkeypatch.setattr(deployment_keys, "make", rubbish)
    with pytest.raises(LabFailed, match="superlink ended with 1"), Lab(tmp_path, 1, patience=120):
        pass
    assert left_in(tmp_path) == []


def test_stages_are_held_against_each_other_byte_by_byte(tmp_path: Path) -> None:
    for run, last in (("one", b"x"), ("other", b"y")):
        (tmp_path / run / "stages").mkdir(parents=True)
        (tmp_path / run / "stages" / "train.safetensors").write_bytes(b"same")
        (tmp_path / run / "stages" / "request-1.safetensors").write_bytes(b"w" + last)
    (tmp_path / "one" / "stages" / "retrain-1.safetensors").write_bytes(b"only here")
    found = deployment.differing(tmp_path / "one", tmp_path / "other")
    assert found == ["request-1.safetensors", "retrain-1.safetensors"]


def shaken(folder: Path, host: str) -> str | None:
    """The version of TLS that a client agrees on with a server named `host`."""
    trusting, serving = (
        ssl.create_default_context(cafile=folder / "ca.crt"),
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
    )
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    serving.load_cert_chain(folder / "server.crt", folder / "server.key")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(back, there, server_hostname=host)
    server = serving.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.version()


def test_certificates_hold_for_their_hosts_alone(tmp_path: Path) -> None:
    deployment_keys.make(tmp_path, 2, ["127.0.0.1", "link.example"])
    assert shaken(tmp_path, "127.0.0.1") == shaken(tmp_path, "link.example") == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(tmp_path, "other.example")
    secrets = [*tmp_path.glob("*.key")]
    assert {path.name for path in secrets} == {"ca.key", "server.key", "node-0.key", "node-1.key"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


def test_node_keys_are_pairs_as_flower_takes_them(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
    from flwr.supercore.primitives.asymmetric import uses_nist_ec_curve

    deployment_keys.make(tmp_path, 2, ["127.0.0.1"])
    numbers = []
    for node in range(2):
        public = load_ssh_public_key((tmp_path / f"node-{node}.pub").read_bytes())
        private = load_ssh_private_key((tmp_path / f"node-{node}.key").read_bytes(), None)
        assert uses_nist_ec_curve(public)  # type: ignore[arg-type]
        assert private.public_key().public_numbers() == public.public_numbers()  # type: ignore[union-attr]
        numbers.append(public.public_numbers())  # type: ignore[union-attr]
    assert numbers[0] != numbers[1]
