"""The post-quantum hybrid recipient mlkem768x25519 (C2SP age specification).

HPKE (RFC 9180) with the KEM MLKEM768-X25519, HKDF-SHA256 and ChaCha20-Poly1305.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from shared.archive.age import bech32
from shared.archive.age.header import FILE_KEY_BYTES, Stanza, b64decode, b64encode
from shared.archive.age.keytypes import POST_QUANTUM
from shared.errors import AgeHeaderInvalid

STANZA = "mlkem768x25519"
RECIPIENT_PREFIX = "age1pq"
IDENTITY_PREFIX = "age-secret-key-pq-"
SEED_BYTES = 32
MLKEM_PUBLIC_BYTES = 1184
X25519_BYTES = 32
PUBLIC_BYTES = MLKEM_PUBLIC_BYTES + X25519_BYTES
ENC_BYTES = 1088 + X25519_BYTES
BODY_BYTES = FILE_KEY_BYTES + 16
_MLKEM_SEED_BYTES = 64
_INFO = b"age-encryption.org/mlkem768x25519"
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


@dataclass(frozen=True)
class HybridRecipient:
    """``age1pq1...``"""

    public: bytes = field(repr=False)

    @property
    def labels(self) -> frozenset[str]:
        return frozenset({POST_QUANTUM})

    def wrap(self, file_key: bytes) -> Stanza:
        """Return the stanza that carries ``file_key``."""
        public = hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.public[:MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(self.public[MLKEM_PUBLIC_BYTES:]),
        )
        sealed = _SUITE.encrypt(file_key, public, info=_INFO)
        enc, body = sealed[:ENC_BYTES], sealed[ENC_BYTES:]
        return Stanza(STANZA, (b64encode(enc).decode("ascii"),), body)

    def encode(self) -> str:
        """Return the recipient as text."""
        return bech32.encode(RECIPIENT_PREFIX, self.public)


@dataclass(frozen=True)
class HybridIdentity:
    """``AGE-SECRET-KEY-PQ-1...``"""

    _seed: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> HybridIdentity:
        """Make a new identity."""
        return cls(os.urandom(SEED_BYTES))

    def _private(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        expanded = hashlib.shake_256(self._seed).digest(_MLKEM_SEED_BYTES + X25519_BYTES)
        return (
            MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES]),
            X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_BYTES:]),
        )

    def to_recipient(self) -> HybridRecipient:
        """Return the public half."""
        mlkem, x25519 = self._private()
        return HybridRecipient(
            mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        )

    def encode(self) -> str:
        """Return the identity as text: a secret."""
        return bech32.encode(IDENTITY_PREFIX, self._seed).upper()

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """Return the file key, or None when no stanza is for this identity."""
        found = (self._open(stanza) for stanza in stanzas if stanza.type == STANZA)
        return next((file_key for file_key in found if file_key is not None), None)

    def _open(self, stanza: Stanza) -> bytes | None:
        if len(stanza.arguments) != 1 or len(stanza.body) != BODY_BYTES:
            raise AgeHeaderInvalid("an mlkem768x25519 stanza is malformed")
        enc = b64decode(stanza.arguments[0].encode("ascii"))
        if len(enc) != ENC_BYTES:
            raise AgeHeaderInvalid("an mlkem768x25519 stanza has a share of the wrong length")
        mlkem, x25519 = self._private()
        try:
            # The suite itself does not say why it fails; the specification wants a share of
            # low order told apart.
            x25519.exchange(X25519PublicKey.from_public_bytes(enc[-X25519_BYTES:]))
            private = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
            return _SUITE.decrypt(enc + stanza.body, private, info=_INFO)
        except InvalidTag:
            return None
        except ValueError:
            raise AgeHeaderInvalid("an mlkem768x25519 stanza has a bad share") from None
