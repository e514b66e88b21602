"""Writes the ledger: one line an entry, on the disk before the run goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedlaf.core.request_record import RequestRecord
from fedlaf.experiment.ledger.entries import START, Entry
from fedlaf.experiment.ledger.names import KEY, SaltedNames
from fedlaf.experiment.ledger.signing import Signer

LEDGER = "ledger.jsonl"
"""File of the ledger in a run's folder."""

SAME = ("id", "status", "weights_before", "weights_after", "reason")
"""What makes two entries of a request the same: a run that goes on tells of its requests once more."""


@dataclass(frozen=True)
class LedgerSettings:
    """Files of keys that the user has made: `signing_key` (Ed25519, PEM; None: the ledger is not signed) and
    `names_key` (64 hexadecimal digits; None: a new one in the run's folder).
    """

    signing_key: str | None = None
    names_key: str | None = None

    def check(self) -> None:
        """Raise InvalidValue for files that hold no such key."""
        if self.signing_key is not None:
            Signer.of(Path(self.signing_key))
        if self.names_key is not None:
            SaltedNames.of(Path(self.names_key))


@dataclass
class Ledger:
    """The ledger of one run; `entries` are those that are there."""

    path: Path
    names: SaltedNames
    signer: Signer | None = None
    entries: list[Entry] = field(default_factory=list)

    @classmethod
    def opened(
        cls, folder: Path, settings: LedgerSettings, run: Mapping[str, Any], *, private: str = "",
        go_on: bool = False,
    ) -> Ledger:  # fmt: skip
        """The ledger of the run in `folder`, a new one unless the run goes on; its first entry is `run` and a
        commitment to the `private` text of the configuration. Raises InvalidValue, OSError.
        """
        path = folder / LEDGER
        folder.mkdir(parents=True, exist_ok=True)
        if not go_on:
            path.unlink(missing_ok=True)
        entries, torn = _read(path)
        names, new = _names(folder, settings, keep=bool(entries))
        signer = None if settings.signing_key is None else Signer.of(Path(settings.signing_key))
        ledger = cls(path, names, signer, entries)
        kind = "resumed" if entries else "run"
        body = {**run, "configuration": names.of_text(private), "new_names": new and bool(entries)}
        public = {"public_key": signer.public} if signer is not None else {}
        ledger.append(kind, {**body, "torn_line": torn, **public})
        return ledger

    @property
    def head(self) -> str:
        """The hash of the last entry."""
        return self.entries[-1].hash if self.entries else START

    def append(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """Write an entry; it is on the disk when this returns. Raises OSError."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        blank = Entry(len(self.entries) + 1, kind, now, body, self.head)
        digest = blank.digest
        signature = "" if self.signer is None else self.signer.sign(digest)
        entry = replace(blank, hash=digest, signature=signature)
        with self.path.open("ab") as file:
            file.write(entry.line)
            file.flush()
            os.fsync(file.fileno())
        self.entries.append(entry)
        return entry

    def request(self, record: RequestRecord) -> None:
        """Write what became of a request, unless that was written before the run went on."""
        body = request_body(record, self.names)
        told = [entry.body for entry in self.entries if entry.kind == "request"]
        if not any(all(body[name] == one.get(name) for name in SAME) for one in told):
            self.append("request", body)


def request_body(record: RequestRecord, names: SaltedNames) -> dict[str, Any]:
    """What the ledger says of a request: clients under their salted names, rows as counts and commitments."""
    asked = [
        {"client": names.of_client(k), "rows": len(rows), "commitment": names.of_rows(k, rows)}
        for k, rows in sorted(record.rows.items())
    ]
    phases = {phase: sorted(map(names.of_client, clients)) for phase, clients in record.phases.items()}
    return {
        "id": record.id, "status": str(record.status), "reason": record.reason, "scope": record.scope,
        "asked": asked, "withdrawn": sorted(map(names.of_client, record.withdrawn)),
        "issued": record.issued, "started": record.started, "ended": record.ended,
        "method": record.method, "stage": record.stage, "stage_before": record.stage_before,
        "weights_before": record.weights_before, "weights_after": record.weights_after,
        "phases": phases, "cost": record.cost.numbers(), "measures": dict(record.measures),
        "verdict": record.verdict, "details": dict(record.details),
    }  # fmt: skip


def _read(path: Path) -> tuple[list[Entry], bool]:
    """The entries that are there; a last line that a process was killed in is taken off."""
    if not path.is_file():
        return [], False
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    torn = whole != content
    if torn:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return [Entry.of(line) for line in whole.splitlines()], torn


def _names(folder: Path, settings: LedgerSettings, *, keep: bool) -> tuple[SaltedNames, bool]:
    """The names to use, and whether their key is new."""
    if settings.names_key is not None:
        return SaltedNames.of(Path(settings.names_key)), False
    path = folder / KEY
    if keep and path.is_file():
        return SaltedNames.of(path), False
    return SaltedNames.made(path), True
