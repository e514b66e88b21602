"""Checks a run's ledger: the chain, the signatures, and that the saved models are those that it speaks of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file

from fedlaf.core.errors import InvalidValue
from fedlaf.core.weights import weights_digest
from fedlaf.experiment.ledger.entries import START, Entry
from fedlaf.experiment.ledger.ledger import LEDGER
from fedlaf.experiment.ledger.signing import public_key, signed


@dataclass(frozen=True)
class Verification:
    """What a check has found: how many entries, models that were compared and models that were erased, the
    hash of the last entry, the public key of the signatures, and the first fault (empty: none).
    """

    entries: int
    models: int = 0
    erased: int = 0
    head: str = START
    signed_by: str = ""
    fault: str = ""

    @property
    def line(self) -> str:
        """In a line."""
        if self.fault:
            return self.fault
        signature = f"signed by {self.signed_by}" if self.signed_by else "not signed"
        return (
            f"{self.entries} entries fit, {signature}; {self.models} saved models have the hashes that it "
            f"names, {self.erased} were erased; the last entry is {self.head}"
        )


class Mismatch(ValueError):
    """The first entry that does not fit, and why."""


def verify(folder: Path, *, key: Path | None = None, head: str | None = None) -> Verification:
    """Check the ledger in a run's folder; `key` is a file with the public key that signed it, `head`
    the hash that its last entry must have.

    Raises InvalidValue where there is no ledger, or for a file that holds no key.
    """
    path = folder / LEDGER
    wanted = None if key is None else public_key(key)
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InvalidValue("verify", f"the folder of a run ({LEDGER})", str(folder)) from error
    try:
        entries = _chain(lines)
        public = _signatures(entries, wanted)
        _last(entries, head, folder)
        models, erased = _models(entries, folder / "stages")
    except Mismatch as fault:
        return Verification(len(lines) - 1, fault=str(fault))
    return Verification(len(entries), models, erased, entries[-1].hash, public)


def _chain(lines: Sequence[bytes]) -> list[Entry]:
    *whole, rest = lines
    entries: list[Entry] = []
    previous = START
    for number, line in enumerate(whole, 1):
        try:
            entry = Entry.of(line)
        except (ValueError, TypeError) as error:
            raise Mismatch(f"entry {number}: not an entry ({type(error).__name__})") from error
        if entry.digest != entry.hash:
            raise Mismatch(f"entry {number}: its content has another hash than it says")
        if entry.number != number or entry.previous != previous:
            raise Mismatch(f"entry {number}: it does not follow the entry before it")
        if entry.line != line + b"\n":
            raise Mismatch(f"entry {number}: it is not written as an entry is")
        entries.append(entry)
        previous = entry.hash
    if rest:
        raise Mismatch(f"entry {len(whole) + 1}: it is cut off; fedlaf resume takes it off and goes on")
    if not entries:
        raise Mismatch("entry 1: it is not there")
    return entries


def _signatures(entries: Sequence[Entry], wanted: str | None) -> str:
    public = str(entries[0].body.get("public_key", ""))
    if wanted is not None and public != wanted:
        raise Mismatch(f"entry 1: signed by {public or 'nobody'}, expected {wanted}")
    for entry in entries:
        if bool(public) != bool(entry.signature):
            raise Mismatch(f"entry {entry.number}: {'no' if public else 'an unexpected'} signature")
        if public and not signed(public, entry.hash, entry.signature):
            raise Mismatch(f"entry {entry.number}: its signature is not that of {public}")
    return public


def _last(entries: Sequence[Entry], head: str | None, folder: Path) -> None:
    """The end of a chain can be cut off: whoever noted the last hash elsewhere can tell."""
    if head is not None and entries[-1].hash != head:
        raise Mismatch(f"entry {len(entries)}: the last one has the hash {entries[-1].hash}, expected {head}")
    try:
        noted = json.loads((folder / "report.json").read_text())["ledger"]
        at, expected = int(noted["entries"]), str(noted["head"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if len(entries) < at or entries[at - 1].hash != expected:
        raise Mismatch(f"entry {min(at, len(entries))}: report.json names another entry {at}")


def _models(entries: Sequence[Entry], stages: Path) -> tuple[int, int]:
    """How many saved models were compared, and how many were erased."""
    gone = {stage for entry in entries if entry.kind == "erased" for stage in entry.body["stages"]}
    known: dict[str, str] = {}
    erased = set()
    for entry in entries:
        if entry.kind != "request":
            continue
        for end in ("before", "after"):
            stage, digest = entry.body.get(f"stage_{end}" if end == "before" else "stage"), ""
            digest = entry.body.get(f"weights_{end}", "")
            if not stage or not digest:
                continue
            if stage in gone:
                erased.add(stage)
                continue
            if stage not in known:
                known[stage] = _digest(stages / f"{stage}.safetensors", entry.number)
            if known[stage] != digest:
                raise Mismatch(f"entry {entry.number}: {stage}.safetensors are other weights than it names")
    return len(known), len(erased)


def _digest(path: Path, number: int) -> str:
    if not path.is_file():
        raise Mismatch(f"entry {number}: {path.name} is not there, and no entry says that it was erased")
    try:
        return weights_digest(load_file(path))
    except (OSError, SafetensorError) as error:
        raise Mismatch(f"entry {number}: {path.name} is damaged ({type(error).__name__})") from error
