"""Real key material and certificates: freshly made, never from the seed.

RSA keys are slow to make, so a few are made once and served again (sealed anew each time);
everything else is made for each use.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

ALGORITHMS: Final = ("EC-P256", "Ed25519", "AES-256", "RSA-2048")
RSA_KEYS: Final = 2
_RSA_EXPONENT: Final = 65537
_END_LINE: Final = "-----END CERTIFICATE-----"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class KeyPair:
    """A key as it is stored: PKCS #8 DER (or raw AES bytes) and SubjectPublicKeyInfo DER."""

    algorithm: str
    private: bytes
    public: bytes | None

    def __repr__(self) -> str:
        return f"KeyPair({self.algorithm})"


@dataclass(frozen=True)
class CertificateFacts:
    """What an event says of a certificate beside its DER bytes."""

    der: bytes
    subject: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime


def make_key(algorithm: str, draw: int) -> KeyPair:
    """Make a key; ``draw`` chooses among the prepared RSA keys.

    Raises ValueError for an algorithm that is not in ALGORITHMS.
    """
    if algorithm == "AES-256":
        return KeyPair(algorithm, os.urandom(32), None)
    if algorithm == "Ed25519":
        return _key_pair(algorithm, ed25519.Ed25519PrivateKey.generate())
    if algorithm == "EC-P256":
        return _key_pair(algorithm, ec.generate_private_key(ec.SECP256R1()))
    if algorithm == "RSA-2048":
        return _rsa_key(draw % RSA_KEYS)
    raise ValueError(f"no such algorithm: {algorithm}")


@lru_cache(maxsize=RSA_KEYS)
def _rsa_key(_number: int) -> KeyPair:
    return _key_pair("RSA-2048", rsa.generate_private_key(_RSA_EXPONENT, 2048))


def _key_pair(algorithm: str, key: PrivateKey) -> KeyPair:
    return KeyPair(
        algorithm,
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    )


@dataclass(frozen=True)
class BundleCertificate:
    """One CA certificate of the bundle, with the name that it is stored under."""

    name: str
    facts: CertificateFacts


@lru_cache(maxsize=1)
def bundle() -> tuple[BundleCertificate, ...]:
    """Parse every CA certificate of the installed certifi bundle, in the bundle's order."""
    found: list[BundleCertificate] = []
    taken: set[str] = set()
    for certificate in _parse_bundle(Path(certifi.where())):
        name = _common_name(certificate)
        if name in taken:
            name = f"{name} ({certificate.serial_number:x})"
        taken.add(name)
        found.append(BundleCertificate(name, facts_of(certificate)))
    return tuple(found)


def _parse_bundle(path: Path) -> Iterator[x509.Certificate]:
    # One by one: a reader of the whole file fails whole when a single entry is unusual.
    block: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line:
            continue
        block.append(line)
        if line == _END_LINE:
            with warnings.catch_warnings():
                # Some old authorities have serial numbers that RFC 5280 rules out.
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                yield x509.load_pem_x509_certificate("\n".join(block).encode("ascii"))
            block = []


def _common_name(certificate: x509.Certificate) -> str:
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME):
        names = certificate.subject.get_attributes_for_oid(oid)
        if names:
            return str(names[0].value)
    return f"{certificate.serial_number:x}"


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    """Read the fields that an event carries out of a parsed certificate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        serial = f"{certificate.serial_number:x}"
    return CertificateFacts(
        der=certificate.public_bytes(Encoding.DER),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=serial,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


class Authority:
    """A certificate authority of the sample's own, which issues for stored keys."""

    def __init__(self, name: str, now: datetime) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._root = self._build(self._name, self._key.public_key(), now, days=3650, is_ca=True)

    @property
    def root(self) -> CertificateFacts:
        """Return the authority's own certificate."""
        return facts_of(self._root)

    def issue(self, host: str, pair: KeyPair, now: datetime, days: int) -> CertificateFacts:
        """Issue a certificate for ``host`` over the public half of ``pair``."""
        key = load_der_public_key(pair.public) if pair.public is not None else None
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise ValueError(f"certificates are issued for RSA and EC keys, not {pair.algorithm}")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        return facts_of(self._build(subject, key, now, days=days, is_ca=False))

    def _build(
        self,
        subject: x509.Name,
        public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
        now: datetime,
        *,
        days: int,
        is_ca: bool,
    ) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
