"""Ed25519 keys (RFC 8032): of archives, of issuers of commands, of restore events."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from shared.errors import UnknownSetting
from shared.secretfiles import read_secret_file, write_secret_file

KEY_BYTES = 32


@dataclass(frozen=True)
class PublicKey:
    """The public half: 32 bytes."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise UnknownSetting(f"a public key has {KEY_BYTES} bytes, not {len(self.raw)}")

    @classmethod
    def from_hex(cls, text: str) -> PublicKey:
        """Read 64 hex digits. Raises UnknownSetting."""
        try:
            return cls(bytes.fromhex(text))
        except ValueError:
            raise UnknownSetting("a public key is written in 64 hex digits") from None

    @property
    def fingerprint(self) -> str:
        """Return ``SHA256:`` and the unpadded base64url of the key's SHA-256."""
        digest = hashlib.sha256(self.raw).digest()
        return "SHA256:" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Tell whether ``signature`` over ``message`` is of this key."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """The private half; it is in no repr."""

    _seed: bytes = field(repr=False)

    @classmethod
    def create(cls, path: Path) -> SigningKey:
        """Make a new key in ``path`` (64 hex digits, 0600). Raises FileExistsError."""
        key = cls(Ed25519PrivateKey.generate().private_bytes_raw())
        write_secret_file(path, key._seed.hex().encode("ascii") + b"\n")
        return key

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read the key. Raises UnknownSetting when the file is no signing key."""
        try:
            seed = bytes.fromhex(read_secret_file(path).decode("ascii"))
        except ValueError:
            raise UnknownSetting(f"the signing key file {path} is not 64 hex digits") from None
        if len(seed) != KEY_BYTES:
            raise UnknownSetting(f"the signing key file {path} is not 64 hex digits")
        return cls(seed)

    @property
    def public(self) -> PublicKey:
        """Return the public half."""
        private = Ed25519PrivateKey.from_private_bytes(self._seed)
        return PublicKey(private.public_key().public_bytes_raw())

    @property
    def fingerprint(self) -> str:
        """Return the public half's fingerprint."""
        return self.public.fingerprint

    def sign(self, message: bytes) -> bytes:
        """Return the signature over ``message``, 64 bytes."""
        return Ed25519PrivateKey.from_private_bytes(self._seed).sign(message)
