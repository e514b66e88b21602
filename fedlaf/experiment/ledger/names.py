"""Names of clients in the ledger: salted with a key, so that erasing the key unlinks the ledger from them."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fedlaf.core.errors import InvalidValue
from fedlaf.core.types import ClientId

KEY = "ledger.key"
"""File of the key of names, in the run's folder where the user names no other."""

BYTES = 32


@dataclass(frozen=True)
class SaltedNames:
    """Names made from a secret key (HMAC-SHA256); without it nobody can tell whose they are."""

    key: bytes

    @classmethod
    def of(cls, path: Path) -> SaltedNames:
        """The names of the key in a file. Raises InvalidValue for a file that holds none."""
        expected = f"a file of {2 * BYTES} hexadecimal digits"
        try:
            key = bytes.fromhex(path.read_text().strip())
        except (OSError, ValueError) as error:
            raise InvalidValue("ledger.names_key", expected, str(path)) from error
        if len(key) != BYTES:
            raise InvalidValue("ledger.names_key", expected, str(path))
        return cls(key)

    @classmethod
    def made(cls, path: Path) -> SaltedNames:
        """A new key, in a file that its owner alone may read."""
        names = cls(os.urandom(BYTES))
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(names.key.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        return names

    def of_client(self, client: ClientId) -> str:
        """The name of a client: 20 hexadecimal digits."""
        return self._salted(f"client {client}")[:20]

    def of_rows(self, client: ClientId, rows: Iterable[int]) -> str:
        """A commitment to rows of a client: who has the key can tell whether these were meant."""
        return self._salted(f"client {client} rows {sorted(rows)}")

    def of_text(self, text: str) -> str:
        """A commitment to a text, such as a configuration that names clients."""
        return self._salted(f"text {text}")

    def _salted(self, text: str) -> str:
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()
