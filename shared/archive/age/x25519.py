"""The X25519 recipient (C2SP age specification, "The X25519 recipient type")."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.archive.age import bech32
from shared.archive.age.header import FILE_KEY_BYTES, Stanza, b64decode, b64encode
from shared.errors import AgeHeaderInvalid

STANZA = "X25519"
RECIPIENT_PREFIX = "age"
IDENTITY_PREFIX = "age-secret-key-"
KEY_BYTES = 32
BODY_BYTES = FILE_KEY_BYTES + 16
_INFO = b"age-encryption.org/v1/X25519"
_ZERO_NONCE = bytes(12)


def _wrapping_key(shared: bytes, share: bytes, recipient: bytes) -> ChaCha20Poly1305:
    key = HKDF(hashes.SHA256(), 32, salt=share + recipient, info=_INFO).derive(shared)
    return ChaCha20Poly1305(key)


@dataclass(frozen=True)
class X25519Recipient:
    """``age1...``"""

    public: bytes

    @property
    def labels(self) -> frozenset[str]:
        return frozenset()

    def wrap(self, file_key: bytes) -> Stanza:
        """Return the stanza that carries ``file_key``."""
        ephemeral = X25519PrivateKey.generate()
        share = ephemeral.public_key().public_bytes_raw()
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(self.public))
        body = _wrapping_key(shared, share, self.public).encrypt(_ZERO_NONCE, file_key, None)
        return Stanza(STANZA, (b64encode(share).decode("ascii"),), body)

    def encode(self) -> str:
        """Return the recipient as text."""
        return bech32.encode(RECIPIENT_PREFIX, self.public)


@dataclass(frozen=True)
class X25519Identity:
    """``AGE-SECRET-KEY-1...``"""

    _secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> X25519Identity:
        """Make a new identity."""
        return cls(os.urandom(KEY_BYTES))

    def to_recipient(self) -> X25519Recipient:
        """Return the public half."""
        private = X25519PrivateKey.from_private_bytes(self._secret)
        return X25519Recipient(private.public_key().public_bytes_raw())

    def encode(self) -> str:
        """Return the identity as text: a secret."""
        return bech32.encode(IDENTITY_PREFIX, self._secret).upper()

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """Return the file key, or None when no stanza is for this identity."""
        found = (self._open(stanza) for stanza in stanzas if stanza.type == STANZA)
        return next((file_key for file_key in found if file_key is not None), None)

    def _open(self, stanza: Stanza) -> bytes | None:
        if len(stanza.arguments) != 1 or len(stanza.body) != BODY_BYTES:
            raise AgeHeaderInvalid("an X25519 stanza is malformed")
        share = b64decode(stanza.arguments[0].encode("ascii"))
        if len(share) != KEY_BYTES:
            raise AgeHeaderInvalid("an X25519 stanza has a share of the wrong length")
        private = X25519PrivateKey.from_private_bytes(self._secret)
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(share))
        except ValueError:
            raise AgeHeaderInvalid("an X25519 stanza has a share of low order") from None
        cipher = _wrapping_key(shared, share, private.public_key().public_bytes_raw())
        try:
            return cipher.decrypt(_ZERO_NONCE, stanza.body, None)
        except InvalidTag:
            return None
