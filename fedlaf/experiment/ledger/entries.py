"""Entries of the ledger: lines of JSON, chained by hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

START = "0" * 64
"""What the first entry has in place of the hash of the one before."""


@dataclass(frozen=True)
class Entry:
    """One entry: its number from 1 on, what kind it is, when it was written, what it says, the hash of the
    entry before, its own, and the signature of that where the ledger is signed.
    """

    number: int
    kind: str
    at: str
    body: Mapping[str, Any]
    previous: str
    hash: str = ""
    signature: str = ""

    @property
    def digest(self) -> str:
        """The SHA-256 over all but the hash and the signature."""
        content = {k: v for k, v in asdict(self).items() if k not in ("hash", "signature")}
        return hashlib.sha256(canonical(content)).hexdigest()

    @property
    def line(self) -> bytes:
        """As a line of the ledger."""
        return canonical(asdict(self)) + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Entry:
        """The entry of a line. Raises ValueError or TypeError for what is none."""
        found = cls(**json.loads(line))
        if not isinstance(found.body, dict):
            raise TypeError("no body")
        return found


def canonical(value: Any) -> bytes:
    """JSON that is the same for the same value: keys in order, no spaces, null for what is not finite."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value
