"""Signatures of the ledger's entries: Ed25519, with keys that the user has made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedlaf.core.errors import InvalidValue

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNING, PUBLIC = "ledger.signing_key", "public_key"
"""Keys under which a wrong file is reported."""


@dataclass(frozen=True)
class Signer:
    """Signs hashes with a private key."""

    private: Ed25519PrivateKey

    @classmethod
    def of(cls, path: Path) -> Signer:
        """The signer of a PEM file without a password. Raises InvalidValue for anything else."""
        _require_package(SIGNING)
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        expected = "a PEM file with an Ed25519 private key (openssl genpkey -algorithm ed25519)"
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidValue(SIGNING, expected, str(path)) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidValue(SIGNING, expected, str(path))
        return cls(key)

    @property
    def public(self) -> str:
        """The public key, as 64 hexadecimal digits."""
        return self.private.public_key().public_bytes_raw().hex()

    def sign(self, digest: str) -> str:
        """The signature of a hash, in hexadecimal digits."""
        return self.private.sign(bytes.fromhex(digest)).hex()


def signed(public: str, digest: str, signature: str) -> bool:
    """Whether a signature of a hash is that of the owner of a public key."""
    _require_package(PUBLIC)
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), bytes.fromhex(digest))
    except (InvalidSignature, ValueError):
        return False
    return True


def public_key(path: Path) -> str:
    """The public key in a PEM file, as 64 hexadecimal digits. Raises InvalidValue for anything else."""
    _require_package(PUBLIC)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    expected = "a PEM file with an Ed25519 public key (openssl pkey -pubout)"
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise InvalidValue(PUBLIC, expected, str(path)) from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidValue(PUBLIC, expected, str(path))
    return key.public_bytes_raw().hex()


def _require_package(key: str) -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise InvalidValue(key, "the package cryptography (pip install 'fedlaf[sign]')", "none") from error
