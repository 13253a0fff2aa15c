"""The passphrase recipient (C2SP age specification, "The scrypt recipient type")."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from shared.archive.age.header import FILE_KEY_BYTES, Stanza, b64decode, b64encode
from shared.archive.age.keytypes import Recipient
from shared.errors import AgeHeaderInvalid, UsageError

STANZA = "scrypt"
SALT_BYTES = 16
BODY_BYTES = FILE_KEY_BYTES + 16
WORK_FACTOR = 18
# 2^22 takes some 15 s and 4 GiB: whoever sends more wants to keep us busy.
MAX_WORK_FACTOR = 22
_LABEL = b"age-encryption.org/v1/scrypt"
_NUMBER = re.compile(r"^[1-9][0-9]?$")


def _cipher(passphrase: bytes, salt: bytes, work_factor: int) -> ChaCha20Poly1305:
    key = Scrypt(salt=_LABEL + salt, length=32, n=1 << work_factor, r=8, p=1).derive(passphrase)
    return ChaCha20Poly1305(key)


@dataclass(frozen=True)
class Passphrase:
    """A passphrase: recipient and identity in one. It stands alone in a file."""

    _passphrase: bytes = field(repr=False)
    work_factor: int = WORK_FACTOR

    @property
    def labels(self) -> frozenset[str]:
        # A label of its own each time: it matches no other recipient, not even itself.
        return frozenset({os.urandom(16).hex()})

    def wrap(self, file_key: bytes) -> Stanza:
        """Return the stanza that carries ``file_key``."""
        salt = os.urandom(SALT_BYTES)
        body = _cipher(self._passphrase, salt, self.work_factor).encrypt(bytes(12), file_key, None)
        return Stanza(STANZA, (b64encode(salt).decode("ascii"), str(self.work_factor)), body)

    def to_recipient(self) -> Recipient:
        """Return itself: a passphrase has no public half."""
        return self

    def encode(self) -> str:
        """Refuse: a passphrase has no text form of a key. Raises UsageError."""
        raise UsageError("a passphrase is not a key")

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """Return the file key, or None when there is no such stanza or the passphrase is wrong."""
        mine = [stanza for stanza in stanzas if stanza.type == STANZA]
        if mine and len(stanzas) > 1:
            raise AgeHeaderInvalid("a scrypt stanza does not stand alone")
        return self._open(mine[0]) if mine else None

    def _open(self, stanza: Stanza) -> bytes | None:
        if len(stanza.arguments) != 2 or len(stanza.body) != BODY_BYTES:
            raise AgeHeaderInvalid("a scrypt stanza is malformed")
        salt = b64decode(stanza.arguments[0].encode("ascii"))
        if len(salt) != SALT_BYTES or not _NUMBER.match(stanza.arguments[1]):
            raise AgeHeaderInvalid("a scrypt stanza is malformed")
        work_factor = int(stanza.arguments[1])
        if work_factor > MAX_WORK_FACTOR:
            raise AgeHeaderInvalid("a scrypt stanza asks for more work than allowed")
        try:
            return _cipher(self._passphrase, salt, work_factor).decrypt(
                bytes(12), stanza.body, None
            )
        except InvalidTag:
            return None
