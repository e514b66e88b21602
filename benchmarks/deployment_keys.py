"""Certificates and keys of a deployment: `python -m benchmarks.deployment_keys FOLDER --nodes 4`.

ca.crt, server.crt and server.key are for TLS; node-K.key and node-K.pub are what SuperNode K proves
its identity with. Whoever has ca.key can make further certificates: keep it elsewhere.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS = 365
PEM = serialization.Encoding.PEM
NO_PASSWORD = serialization.NoEncryption()


def make(folder: Path, nodes: int, hosts: list[str]) -> None:
    """A certificate authority, a certificate for `hosts` signed by it, and a pair of keys for each node."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    trusted = _certificate("fedlaf deployment", authority, None, authority)
    certified = _certificate(hosts[0], server, trusted, authority, hosts)
    (folder / "ca.crt").write_bytes(trusted.public_bytes(PEM))
    (folder / "server.crt").write_bytes(certified.public_bytes(PEM))
    for name, key in (("ca.key", authority), ("server.key", server)):
        _secret(folder / name, key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, NO_PASSWORD))
    for node in range(nodes):
        _node_keys(folder, node)


def _node_keys(folder: Path, node: int) -> None:
    key = ec.generate_private_key(ec.SECP384R1())  # Flower takes NIST curves, in the format of OpenSSH
    private = key.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, NO_PASSWORD)
    _secret(folder / f"node-{node}.key", private)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (folder / f"node-{node}.pub").write_bytes(public + b"\n")


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    signing: ec.EllipticCurvePrivateKey,
    hosts: list[str] | None = None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    draft = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
        .add_extension(_usage(signs=issuer is None), critical=True)
    )
    if hosts is not None:
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        serves = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        draft = draft.add_extension(names, critical=False).add_extension(serves, critical=False)
    return draft.sign(signing, hashes.SHA256())


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description="Certificates and keys of a deployment.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--host", action="append", help="name or address of the SuperLink; may be repeated")
    asked = parser.parse_args()
    make(asked.folder, asked.nodes, asked.host or ["127.0.0.1", "localhost"])
    print(f"ca.crt, server.crt, server.key and {asked.nodes} pairs of node keys: {asked.folder}")


if __name__ == "__main__":
    main()
