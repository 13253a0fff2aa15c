"""The credential of a place that has nobody yet: it restores, or makes the first administrator.

It lies in a 0600 file of the place: a token, and the moment it was made. It is spent when a
restore has completed since, or when there is a user; only the machine makes another.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from serving.access.context import Access
from serving.access.people import has_users
from serving.caller import LOCAL_PERMISSIONS, Caller
from shared.database import Connection
from shared.errors import BootstrapSpent, UnknownSetting
from shared.secretfiles import read_secret_file

BOOTSTRAP = "bootstrap"
BOOTSTRAP_PERMISSIONS = frozenset({"read", "restore"}) | LOCAL_PERMISSIONS


@dataclass(frozen=True)
class Credential:
    """What lies in the file, as a digest."""

    digest: bytes = field(repr=False)
    made_at: datetime


class Bootstrap:
    """Knows the credential where it is sent as a token."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def authenticate(self, token: str) -> Caller | None:
        """Return who may restore into an instance without users, or None.

        Raises BootstrapSpent, PostgresUnavailable, UnknownSetting.
        """
        credential = read_credential(self._access.bootstrap_file)
        if credential is None or not hmac.compare_digest(digest_of(token), credential.digest):
            return None
        with self._access.transaction("looking for users") as conn:
            check_unspent(conn, credential)
        return Caller(BOOTSTRAP, BOOTSTRAP_PERMISSIONS, proven_at=self._access.clock.now())


def digest_of(token: str) -> bytes:
    """Return the digest that a credential is compared by."""
    return hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()


def read_credential(file: Path | None) -> Credential | None:
    """Return the credential in ``file``, or None when there is none. Raises UnknownSetting."""
    if file is None or not file.exists():
        return None
    known, _, made_at = read_secret_file(file).decode("ascii", "replace").partition("\n")
    try:
        made = datetime.fromisoformat(made_at.strip()).astimezone(UTC)
    except ValueError:
        raise UnknownSetting(
            f"{file} is not a bootstrap credential", hint="Make another: `secryn bootstrap`."
        ) from None
    return Credential(digest_of(known), made)


def check_unspent(conn: Connection, credential: Credential) -> None:
    """Raise BootstrapSpent when the place has had its first restore or has users."""
    row = conn.execute("SELECT last_at FROM access.restored").fetchone()
    if row is not None and row[0] > credential.made_at:
        raise BootstrapSpent("a restore has completed since it was made")
    if has_users(conn):
        raise BootstrapSpent("the instance has users")


def note_restored(conn: Connection, at: datetime) -> None:
    """Note that a restore has completed: credentials from before are spent."""
    conn.execute(
        "INSERT INTO access.restored (last_at) VALUES (%s) ON CONFLICT (one_row) "
        "DO UPDATE SET last_at = greatest(access.restored.last_at, EXCLUDED.last_at)",
        (at,),
    )
