"""API tokens: of the place, not of the data. A restore changes none of them.

A token is shown once, when it is made; stored is the SHA-256 of its random part. It may do what it
was given when it was made, which was never more than its maker might do, until it expires or is
revoked.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from psycopg import errors
from psycopg.rows import class_row, dict_row

from serving.access.context import Access
from serving.caller import PERMISSIONS, Caller
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.database import Connection
from shared.errors import AccessError, NotAuthenticated, TokenExists, TokenNotFound
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import BACKUP_EVENTS

PREFIX: Final = "secryn-token."
SECRET_BYTES: Final = 32
# How a token's name begins where callers are named.
NAME_PREFIX: Final = "token:"
USED_INTERVAL: Final = timedelta(minutes=1)
LONGEST: Final = timedelta(days=366)

# The type of the event, and the action in the audit trail.
CREATED: Final = ("com.secryn.access.token_created.v1", "token.create")
REVOKED: Final = ("com.secryn.access.token_revoked.v1", "token.revoke")

_COLUMNS: Final = (
    "token_id, name, permissions, unattended, created_by, created_at, expires_at, revoked_by, "
    "revoked_at, last_used_at"
)


@dataclass(frozen=True)
class NewToken:
    """What a token is asked to be."""

    name: str
    permissions: frozenset[str]
    lifetime: timedelta
    unattended: bool = False


@dataclass(frozen=True)
class TokenRow:
    """A token as it is stored."""

    token_id: UUID
    name: str
    digest: bytes = field(repr=False)
    permissions: list[str]
    unattended: bool
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


class TokenHolders:
    """Knows who presents an API token."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def authenticate(self, token: str) -> Caller | None:
        """Return the token's caller, or None for one that is not known.

        Raises NotAuthenticated for one that has expired or was revoked, PostgresUnavailable.
        """
        if not token.startswith(PREFIX):
            return None
        named, _, secret = token.removeprefix(PREFIX).partition(".")
        try:
            token_id = UUID(named)
        except ValueError:
            return None
        now = self._access.clock.now()
        with self._access.transaction("looking for a token") as conn:
            row = _row(conn, token_id)
            if row is None or not hmac.compare_digest(_digest(secret), row.digest):
                return None
            # Only whoever has the whole token learns what became of it.
            if row.revoked_at is not None:
                raise NotAuthenticated(f"the API token {row.name} was revoked")
            if row.expires_at <= now:
                raise NotAuthenticated(f"the API token {row.name} has expired")
            if row.last_used_at is None or now - row.last_used_at >= USED_INTERVAL:
                conn.execute(
                    "UPDATE access.tokens SET last_used_at = %s WHERE token_id = %s",
                    (now, token_id),
                )
        allowed = PERMISSIONS & frozenset(row.permissions)
        return Caller(f"{NAME_PREFIX}{row.name}", allowed, unattended=row.unattended)


def create_token(access: Access, wanted: NewToken, requester: Requester) -> dict[str, Any]:
    """Make a token; return it, which nobody can a second time, and what it may do.

    A token makes no tokens: whoever took one could otherwise keep the door open. Raises
    AccessError when the maker may not do what the token is to do, ProofNeeded, TokenExists.
    """
    requester.require("configure")
    if requester.name.startswith(NAME_PREFIX):
        raise AccessError("a token makes no other tokens", hint="Sign in, and make it there.")
    requester.require_proof(access.clock.now(), access.settings.proof_max_age_s)
    for permission in sorted(wanted.permissions):
        requester.require(permission)
    now, token_id = access.clock.now(), uuid4()
    secret = secrets.token_urlsafe(SECRET_BYTES)
    expires_at = now + wanted.lifetime
    facts = {
        "token_id": str(token_id), "name": wanted.name, "permissions": sorted(wanted.permissions),
        "unattended": wanted.unattended, "expires_at": expires_at.isoformat(),
    }  # fmt: skip
    row = (
        token_id, wanted.name, _digest(secret), sorted(wanted.permissions), wanted.unattended,
        requester.name, now, expires_at,
    )  # fmt: skip
    try:
        with access.transaction("making a token") as conn:
            conn.execute(
                "INSERT INTO access.tokens (token_id, name, digest, permissions, unattended, "
                "created_by, created_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                row,
            )
            _record(access, conn, CREATED, facts, requester)
    except errors.UniqueViolation:
        raise TokenExists(f"there is or was a token {wanted.name!r}") from None
    return facts | {"token": f"{PREFIX}{token_id}.{secret}"}


def person_behind(conn: Connection, name: str) -> str:
    """Return who made the token that a caller's name stands for; other names as they are.

    A token is its maker's hand: what takes two people takes another one than that.
    """
    if not name.startswith(NAME_PREFIX):
        return name
    row = conn.execute(
        "SELECT created_by FROM access.tokens WHERE name = %s", (name.removeprefix(NAME_PREFIX),)
    ).fetchone()
    return name if row is None else str(row[0])


def list_tokens(access: Access) -> list[dict[str, Any]]:
    """Return every token, the newest first: what it may do and when it was used, never itself."""
    now = access.clock.now()
    with (
        access.transaction("reading the tokens") as conn,
        conn.cursor(row_factory=dict_row) as cursor,
    ):
        query = f"SELECT {_COLUMNS} FROM access.tokens ORDER BY created_at DESC, name"
        return [_shown(row, now) for row in cursor.execute(query).fetchall()]


def revoke_token(access: Access, name: str, requester: Requester) -> dict[str, Any]:
    """End a token at once; one that was revoked stays as it is. Raises TokenNotFound."""
    requester.require("configure")
    now = access.clock.now()
    with (
        access.transaction("revoking a token") as conn,
        conn.cursor(row_factory=dict_row) as cursor,
    ):
        query = f"SELECT {_COLUMNS} FROM access.tokens WHERE name = %s FOR UPDATE"
        row = cursor.execute(query, (name,)).fetchone() if "\x00" not in name else None
        if row is None:
            raise TokenNotFound(f"there is no token {name[:64]!r}")
        if row["revoked_at"] is None:
            cursor.execute(
                "UPDATE access.tokens SET revoked_by = %s, revoked_at = %s WHERE token_id = %s",
                (requester.name, now, row["token_id"]),
            )
            row |= {"revoked_by": requester.name, "revoked_at": now}
            facts = {"token_id": str(row["token_id"]), "name": name}
            _record(access, conn, REVOKED, facts, requester)
        return _shown(row, now)


def _record(
    access: Access,
    conn: Connection,
    what: tuple[str, str],
    facts: dict[str, Any],
    requester: Requester,
) -> None:
    kind, action = what
    stream = f"token-{facts['token_id']}"
    access.store.lock_appends(conn)
    version = access.store.version(conn, stream)
    meta = EventMeta(requester.name, requester.correlation_id)
    access.store.append(conn, stream, version, [NewEvent(kind, facts, BACKUP_EVENTS)], meta)
    entry = AuditEntry(
        action, "success", requester.name, "token", facts["name"], requester.source, details=facts
    )
    access.audit.record(conn, entry, requester.correlation_id)


def _shown(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    state = (
        "revoked" if row["revoked_at"] is not None
        else "expired" if row["expires_at"] <= now else "valid"
    )  # fmt: skip
    plain = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
    }
    return plain | {"token_id": str(row["token_id"]), "state": state}


def _row(conn: Connection, token_id: UUID) -> TokenRow | None:
    query = (
        "SELECT token_id, name, digest, permissions, unattended, expires_at, revoked_at, "
        "last_used_at FROM access.tokens WHERE token_id = %s"
    )
    with conn.cursor(row_factory=class_row(TokenRow)) as cursor:
        return cursor.execute(query, (token_id,)).fetchone()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
