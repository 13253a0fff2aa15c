"""Check a password: the same work whoever is named, and never more of it at once than fits.

An unknown name costs what a wrong password costs: one Argon2id with parameters that a hash of
this instance has. Which one follows from the name, so that a name always costs the same.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, LiteralString
from uuid import UUID

import structlog
from argon2 import DEFAULT_RANDOM_SALT_LENGTH, PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type
from psycopg import errors

from serving.access.people import Person
from shared.database import Connection
from shared.errors import SignInBusy, UsageError

log = structlog.get_logger(__name__)

MAX_PASSWORD_BYTES: Final = 1024
LEAST_PASSWORD_CHARS: Final = 12
# One verification takes as much memory as its hash says: 64 MiB with the defaults.
AT_ONCE: Final = 2
WAITING: Final = 4
# What a hash out of an archive may ask for; more would take the machine down at every try.
MOST_MEMORY_KIB: Final = 1 << 20
MOST_PASSES: Final = 64

_HASHER: Final = PasswordHasher()
_ANY: LiteralString = (
    "SELECT password_hash FROM instance.users "
    "WHERE password_hash IS NOT NULL AND id >= %s ORDER BY id LIMIT 1"
)


class PasswordGate:
    """Let a bounded number of verifications run; who comes on top is sent away at once."""

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._places = threading.BoundedSemaphore(at_once + waiting)
        self._running = threading.BoundedSemaphore(at_once)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Hold a place while a verification runs. Raises SignInBusy."""
        if not self._places.acquire(blocking=False):
            raise SignInBusy("too many sign-ins are being checked at this moment")
        try:
            with self._running:
                yield
        finally:
            self._places.release()


def hash_password(password: str) -> str:
    """Return the Argon2id hash of a new password (RFC 9106). Raises UsageError."""
    if len(password) < LEAST_PASSWORD_CHARS or len(password.encode()) > MAX_PASSWORD_BYTES:
        raise UsageError(
            f"a password has at least {LEAST_PASSWORD_CHARS} characters and at most "
            f"{MAX_PASSWORD_BYTES:,} bytes"
        )
    return _HASHER.hash(password)


def decoy_hash(conn: Connection, username: str) -> str:
    """Return a hash that no password opens, with the parameters of a user's of this instance."""
    start = UUID(bytes=hashlib.sha256(username.encode("utf-8", "surrogatepass")).digest()[:16])
    found: str | None = None
    try:
        with conn.transaction():
            row = conn.execute(_ANY, (start,)).fetchone()
            row = row or conn.execute(_ANY, (UUID(int=0),)).fetchone()
            found = row[0] if row is not None else None
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        found = None
    return _with_parameters_of(found)


def verify_password(person: Person | None, decoy: str, password: str) -> bool:
    """Tell whether ``password`` is that of ``person``; takes as long when there is none."""
    stored = person.password_hash if person is not None else None
    if stored is not None and not _usable(stored):
        log.error("sign_in.hash_unusable", user_id=str(person.user_id) if person else "")
        stored = None
    right = _verify(stored or decoy, password)
    return right and stored is not None and person is not None and person.enabled


def has_password(person: Person) -> bool:
    """Tell whether there is a password by which ``person`` can sign in."""
    return person.password_hash is not None and _usable(person.password_hash)


def _verify(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def _usable(stored: str) -> bool:
    try:
        parameters = extract_parameters(stored)
    except InvalidHashError:
        return False
    return (
        parameters.type is Type.ID
        and parameters.memory_cost <= MOST_MEMORY_KIB
        and parameters.time_cost <= MOST_PASSES
    )


def _with_parameters_of(stored: str | None) -> str:
    like = stored if stored is not None and _usable(stored) else None
    if like is not None:
        found = extract_parameters(like)
        memory, passes, lanes, size = (
            found.memory_cost, found.time_cost, found.parallelism, found.hash_len,
        )  # fmt: skip
    else:
        memory, passes, lanes, size = (
            _HASHER.memory_cost, _HASHER.time_cost, _HASHER.parallelism, _HASHER.hash_len,
        )  # fmt: skip
    salt = _b64(b"\x00" * DEFAULT_RANDOM_SALT_LENGTH)
    return f"$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${_b64(bytes(size))}"


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii").rstrip("=")
