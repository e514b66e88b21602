"""The ledger: whatever is changed in it, or in the models that it names, is found and named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fedlaf import __main__ as entry
from fedlaf.core.cost import Cost
from fedlaf.core.errors import InvalidValue
from fedlaf.core.request_record import RequestRecord, RequestStatus
from fedlaf.core.weights import weights_digest
from fedlaf.experiment.ledger import LEDGER, Ledger, LedgerSettings, verify

MODEL = {"w": np.arange(4, dtype=np.float32)}
OTHER = {"w": np.arange(4, dtype=np.float32) + 1}
RECORD = RequestRecord(
    "request-1", RequestStatus.COMPLETED, "client", {3: (0, 1, 2)}, (3,), 2, 2, 2, "laf",
    "request-1", "train", weights_digest(MODEL), weights_digest(OTHER), {"representations": (0, 3)},
    Cost(labels_read=4.0, retain_rows_read=5.0), {"gap": 1.5, "rmia": float("nan")}, "within",
    details={"cause": "x"},
)  # fmt: skip


def written(folder: Path, **settings: str) -> Ledger:
    """A ledger of a run with one request, and its models."""
    ledger = Ledger.opened(
        folder, LedgerSettings(**settings), {"method": "laf"}, private="request.clients=[3]"
    )
    ledger.request(RECORD)
    ledger.append("ended", {})
    (folder / "stages").mkdir()
    save_file(MODEL, folder / "stages" / "train.safetensors")
    save_file(OTHER, folder / "stages" / "request-1.safetensors")
    return ledger


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A private and a public Ed25519 key in PEM files."""
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder = tmp_path_factory.mktemp("keys")
    key = Ed25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "private.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    (folder / "public.pem").write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return str(folder / "private.pem"), folder / "public.pem"


def test_a_whole_ledger_fits(tmp_path: Path) -> None:
    ledger = written(tmp_path)
    found = verify(tmp_path)
    assert found.fault == ""
    assert (found.entries, found.models, found.erased) == (3, 2, 0)
    assert found.head == ledger.head
    assert verify(tmp_path, head=ledger.head).fault == ""
    assert verify(tmp_path, head="0" * 64).fault.startswith("entry 3: the last one has the hash")


def test_what_it_says_of_a_request(tmp_path: Path) -> None:
    ledger = written(tmp_path)
    body = ledger.entries[1].body
    assert (body["status"], body["scope"], body["method"]) == ("completed", "client", "laf")
    assert body["cost"]["labels_read"] == 4
    assert body["asked"][0]["rows"] == 3
    assert body["phases"]["representations"] == sorted(map(ledger.names.of_client, (0, 3)))
    lines = (tmp_path / LEDGER).read_text().splitlines()
    assert json.loads(lines[1])["body"]["measures"] == {"gap": 1.5, "rmia": None}


def test_clients_have_salted_names(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, other = written(tmp_path / "a"), written(tmp_path / "b")
    names = {ledger.names.of_client(3) for ledger in (one, other)}
    assert len(names) == 2  # the same client, another run, another key
    assert (tmp_path / "a" / "ledger.key").stat().st_mode & 0o077 == 0
    (tmp_path / "a" / "ledger.key").unlink()  # erased: nobody can tell any more, and the chain still fits
    assert verify(tmp_path / "a").fault == ""
    later = Ledger.opened(tmp_path / "a", LedgerSettings(), {}, go_on=True)
    assert later.entries[-1].body["new_names"]
    assert later.names.of_client(3) not in names


def test_a_request_that_was_told_before_is_not_told_again(tmp_path: Path) -> None:
    written(tmp_path)
    later = Ledger.opened(tmp_path, LedgerSettings(), {}, go_on=True)
    later.request(RECORD)
    assert [entry.kind for entry in later.entries] == ["run", "request", "ended", "resumed"]
    assert verify(tmp_path).fault == ""


def test_a_line_that_a_process_was_killed_in_is_taken_off(tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / LEDGER
    path.write_bytes(path.read_bytes()[:-20])
    assert verify(tmp_path).fault.startswith("entry 3: it is cut off")
    later = Ledger.opened(tmp_path, LedgerSettings(), {}, go_on=True)
    assert later.entries[-1].body["torn_line"]
    assert verify(tmp_path).fault == ""


LENGTHS: dict[Path, bytes] = {}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    written(folder)
    return folder


@given(st.data())
def test_any_changed_byte_is_found_in_the_entry_that_it_is_in(whole: Path, data: st.DataObject) -> None:
    path = whole / LEDGER
    content = LENGTHS.setdefault(path, path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != content[place]))
    path.write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
    try:
        fault = verify(whole).fault
    finally:
        path.write_bytes(content)
    assert fault.startswith(f"entry {1 + content[:place].count(10)}:")


@pytest.mark.parametrize("lines", [[0, 2], [1, 2], [0, 2, 1], [0, 1, 1, 2], []], ids=str)
def test_entries_that_are_left_out_or_moved_are_found(lines: list[int], tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / LEDGER
    found = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(found[i] for i in lines))
    expected = next((place for place, i in enumerate(lines) if place != i), 0)
    assert verify(tmp_path).fault.startswith(f"entry {expected + 1}: ")


def test_an_end_that_was_cut_off_is_found_by_the_report(tmp_path: Path) -> None:
    ledger = written(tmp_path)
    noted = {"entries": len(ledger.entries), "head": ledger.head}
    (tmp_path / "report.json").write_text(json.dumps({"ledger": noted}))
    assert verify(tmp_path).fault == ""
    path = tmp_path / LEDGER
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert verify(tmp_path).fault.startswith("entry 2: report.json names another entry 3")


def test_other_models_than_it_names_are_found(tmp_path: Path) -> None:
    written(tmp_path)
    save_file(MODEL, tmp_path / "stages" / "request-1.safetensors")
    assert verify(tmp_path).fault == "entry 2: request-1.safetensors are other weights than it names"
    (tmp_path / "stages" / "request-1.safetensors").write_bytes(b"no")
    assert "entry 2: request-1.safetensors is damaged" in verify(tmp_path).fault
    (tmp_path / "stages" / "request-1.safetensors").unlink()
    assert "entry 2: request-1.safetensors is not there" in verify(tmp_path).fault


def test_an_erased_model_is_no_mismatch(tmp_path: Path) -> None:
    ledger = written(tmp_path)
    (tmp_path / "stages" / "train.safetensors").unlink()
    assert "train.safetensors is not there" in verify(tmp_path).fault
    ledger.append("erased", {"stages": ["train"]})
    found = verify(tmp_path)
    assert (found.fault, found.models, found.erased) == ("", 1, 1)


def test_a_signed_ledger_cannot_be_written_again_by_others(tmp_path: Path, keys: tuple[str, Path]) -> None:
    private, public = keys
    written(tmp_path, signing_key=private)
    found = verify(tmp_path, key=public)
    assert found.fault == ""
    assert len(found.signed_by) == 64
    # Somebody without the key writes the whole chain anew: each hash fits, no signature does.
    for path in (tmp_path / LEDGER, *(tmp_path / "stages").iterdir()):
        path.unlink()
    (tmp_path / "stages").rmdir()
    written(tmp_path)
    assert verify(tmp_path).fault == ""
    assert verify(tmp_path, key=public).fault.startswith("entry 1: signed by nobody, expected ")


def test_a_signature_of_another_entry_is_found(tmp_path: Path, keys: tuple[str, Path]) -> None:
    written(tmp_path, signing_key=keys[0])
    path = tmp_path / LEDGER
    first, second, third = path.read_bytes().splitlines(keepends=True)
    signature = json.loads(first)["signature"].encode()
    path.write_bytes(first + second.replace(json.loads(second)["signature"].encode(), signature) + third)
    assert verify(tmp_path).fault.startswith("entry 2: its signature is not that of")


def test_wrong_files_of_keys_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no key")
    with pytest.raises(
        InvalidValue, match=r"ledger.signing_key: expected a PEM file with an Ed25519 private"
    ):
        LedgerSettings(signing_key=str(tmp_path / "no.pem")).check()
    with pytest.raises(InvalidValue, match=r"ledger.names_key: expected a file of 64 hexadecimal digits"):
        LedgerSettings(names_key=str(tmp_path / "no.pem")).check()
    with pytest.raises(InvalidValue, match=r"verify: expected the folder of a run"):
        verify(tmp_path)
    written(tmp_path)
    with pytest.raises(InvalidValue, match=r"public_key: expected a PEM file with an Ed25519 public key"):
        verify(tmp_path, key=tmp_path / "no.pem")


def test_the_command_ends_with_0_1_and_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fedlaf(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["fedlaf", "verify", *arguments])
        code: object = 0
        try:
            entry.main()
        except SystemExit as ended:
            code = ended.code
        told = capsys.readouterr()
        return code, told.out + told.err

    written(tmp_path)
    code, told = fedlaf(str(tmp_path))
    assert (code, told.startswith("3 entries fit, not signed; 2 saved models")) == (0, True)
    (tmp_path / LEDGER).write_text("{}\n")
    assert fedlaf(str(tmp_path)) == (1, "fedlaf: error: entry 1: not an entry (TypeError)\n")
    for wrong in ((str(tmp_path / "nowhere"),), (), (str(tmp_path), "hed=0")):
        code, told = fedlaf(*wrong)
        assert (code, told.count("\n")) == (2, 1)
