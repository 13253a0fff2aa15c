"""The root key, the data keys it wraps, and the values that those seal.

A sealed value is ``format (1 byte, 1) | data key id (16) | nonce (12) | ciphertext and tag``,
AES-256-GCM (NIST SP 800-38D) with a random nonce; its additional data names what it belongs to,
so that a sealed value moved to another secret does not open. Data keys are wrapped with AES key
wrap (RFC 3394), which is deterministic: a restore into the same place gives the same bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)
from psycopg import sql

from shared.errors import KeyringError, UnknownSetting
from shared.instance.events import KeyringKeyAdded, KeyringRewrapped
from shared.secretfiles import read_secret_file, write_secret_file

KEY_BYTES = 32
NONCE_BYTES = 12
SEALED_FORMAT = 1
CHECK_VALUE_BYTES = 16
# What sealing adds to a value: format, key id, nonce, tag.
SEALED_OVERHEAD_BYTES = 1 + 16 + NONCE_BYTES + 16

Kind = Literal["secret", "key", "setting"]


@dataclass(frozen=True)
class RootKey:
    """The key that wraps the data keys; it lives in a file of the place alone."""

    _key: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Return 16 hex digits that tell root keys apart and nothing else."""
        return hashlib.sha256(b"secryn root key id v1" + self._key).hexdigest()[:16]

    @classmethod
    def create(cls, path: Path) -> RootKey:
        """Make a new key in ``path`` (64 hex digits, 0600). Raises FileExistsError."""
        write_secret_file(path, os.urandom(KEY_BYTES).hex().encode("ascii") + b"\n")
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> RootKey:
        """Read the key. Raises UnknownSetting when the file is no root key."""
        try:
            key = bytes.fromhex(read_secret_file(path).decode("ascii"))
        except ValueError:
            raise UnknownSetting(f"the root key file {path} is not 64 hex digits") from None
        if len(key) != KEY_BYTES:
            raise UnknownSetting(f"the root key file {path} is not 64 hex digits")
        return cls(key)

    def derived(self, purpose: str) -> bytes:
        """Return a key of 32 bytes for one other purpose (RFC 5869); it tells nothing of this one."""
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose.encode()).derive(self._key)

    def wrap(self, data_key: bytes) -> bytes:
        """Return ``data_key`` wrapped under this key (RFC 3394), 40 bytes."""
        return aes_key_wrap(self._key, data_key)

    def unwrap(self, wrapped: bytes, check_value: bytes) -> bytes:
        """Return the data key in ``wrapped``. Raises KeyringError."""
        try:
            data_key = aes_key_unwrap(self._key, wrapped)
        except (InvalidUnwrap, ValueError):
            raise KeyringError("a data key does not open under this place's root key") from None
        if not hmac.compare_digest(check_value_of(data_key), check_value):
            raise KeyringError("a data key is not the one its check value was made of")
        return data_key


def check_value_of(data_key: bytes) -> bytes:
    """Return what tells data keys apart without giving them away, 16 bytes."""
    return hmac.digest(data_key, b"secryn data key check v1", "sha256")[:CHECK_VALUE_BYTES]


def new_data_key(root: RootKey, purpose: str) -> KeyringKeyAdded:
    """Make a data key and return the event that adds it to the keyring."""
    data_key = os.urandom(KEY_BYTES)
    return KeyringKeyAdded(
        id=uuid4(),
        purpose=purpose,
        root_key_id=root.id,
        wrapped=root.wrap(data_key),
        check_value=check_value_of(data_key),
    )


def rewrap(rows: Iterable[Mapping[str, Any]], old: RootKey, new: RootKey) -> KeyringRewrapped:
    """Return the event that wraps every data key of ``rows`` under another root key."""
    wrapped = {
        row["id"]: new.wrap(old.unwrap(bytes(row["wrapped"]), bytes(row["check_value"])))
        for row in rows
    }
    return KeyringRewrapped(root_key_id=new.id, wrapped=wrapped)


def additional_data(kind: Kind, owner: UUID | str, version: int) -> bytes:
    """Return the additional data that binds a sealed value to what it belongs to."""
    return f"secryn:{kind}:{owner}:{version}".encode()


def data_key_of(sealed: bytes) -> UUID | None:
    """Return the id of the data key that a value is sealed under; None for another format."""
    if len(sealed) < SEALED_OVERHEAD_BYTES or sealed[0] != SEALED_FORMAT:
        return None
    return UUID(bytes=bytes(sealed[1:17]))


@dataclass(frozen=True)
class Keyring:
    """The opened data keys of an instance, by id; in memory only."""

    _ciphers: dict[UUID, AESGCM] = field(repr=False)
    _active: dict[str, UUID]

    @classmethod
    def open(cls, rows: Iterable[Mapping[str, Any]], root: RootKey) -> Keyring:
        """Unwrap the rows of table ``keyring``. Raises KeyringError."""
        ciphers: dict[UUID, AESGCM] = {}
        active: dict[str, UUID] = {}
        for row in sorted(rows, key=lambda row: (row["created_at"], row["id"])):
            data_key = root.unwrap(bytes(row["wrapped"]), bytes(row["check_value"]))
            ciphers[row["id"]] = AESGCM(data_key)
            if row["state"] == "active":
                active[row["purpose"]] = row["id"]
        return cls(ciphers, active)

    @property
    def purposes(self) -> frozenset[str]:
        """Return the purposes for which there is an active key."""
        return frozenset(self._active)

    def seal(
        self, value: bytes, purpose: str, kind: Kind, owner: UUID | str, version: int
    ) -> bytes:
        """Seal ``value`` under the newest active key for ``purpose``. Raises KeyringError."""
        key_id = self._active.get(purpose)
        if key_id is None:
            raise KeyringError(f"the keyring has no active key for {purpose}")
        nonce = os.urandom(NONCE_BYTES)
        head = bytes([SEALED_FORMAT]) + key_id.bytes + nonce
        sealed = self._ciphers[key_id].encrypt(nonce, value, additional_data(kind, owner, version))
        return head + sealed

    def unseal(self, sealed: bytes, kind: Kind, owner: UUID | str, version: int) -> bytes:
        """Open a sealed value. Raises KeyringError; the message holds nothing of the value."""
        key_id = data_key_of(sealed)
        if key_id is None:
            raise KeyringError(f"the value of {kind} {owner} is not in a known format")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise KeyringError(f"the data key of {kind} {owner} is not in the keyring")
        nonce, body = sealed[17 : 17 + NONCE_BYTES], sealed[17 + NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, body, additional_data(kind, owner, version))
        except InvalidTag:
            raise KeyringError(f"the value of {kind} {owner} does not open") from None


def read_keyring(conn: psycopg.Connection[Any], root: RootKey, schema: str = "instance") -> Keyring:
    """Read and open the keyring of ``schema``. Raises KeyringError."""
    query = sql.SQL("SELECT id, purpose, state, wrapped, check_value, created_at FROM {}")
    found = conn.execute(query.format(sql.Identifier(schema, "keyring"))).fetchall()
    names = ("id", "purpose", "state", "wrapped", "check_value", "created_at")
    return Keyring.open([dict(zip(names, row, strict=True)) for row in found], root)
