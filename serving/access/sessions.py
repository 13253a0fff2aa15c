"""Web sessions: kept in PostgreSQL, looked at anew at every request.

The cookie holds 32 random bytes; the table holds their SHA-256. A session stands for one person
with the password and the roles of the moment it began, in one epoch of the instance: when one of
them is another, it has ended, and its row says why.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID, uuid4

from psycopg.rows import class_row

from serving.access.bootstrap import (
    BOOTSTRAP,
    BOOTSTRAP_PERMISSIONS,
    Credential,
    check_unspent,
    read_credential,
)
from serving.access.context import Access, Visit
from serving.access.people import USER_PREFIX, Person, person_with_id
from serving.caller import Caller
from shared.audit import AuditEntry
from shared.database import Connection
from shared.errors import BootstrapSpent

COOKIE_BYTES: Final = 32
# Ended sessions are kept for so long, to tell whoever comes back why.
KEPT: Final = timedelta(days=1)
Method = Literal["password", "bootstrap", "oidc"]

ENDINGS: Final = {
    "signed_out": "you signed out",
    "idle": "it was not used for too long",
    "expired": "it was open for too long",
    "restored": "the instance was restored",
    "disabled": "the account is disabled or gone",
    "password_changed": "the password was changed",
    "roles_changed": "the account's roles were changed",
    "spent": "the bootstrap credential is spent or was replaced",
}


@dataclass(frozen=True)
class SessionRow:
    """A session as it is stored."""

    session_id: UUID
    method: str
    user_id: UUID | None
    username: str
    epoch: int
    credential: bytes
    rights: bytes
    created_at: datetime
    last_seen_at: datetime
    proven_at: datetime
    ended_because: str | None


@dataclass(frozen=True)
class Session:
    """An open session, for the routes and the pages. ``csrf_token`` goes into every form."""

    session_id: UUID
    method: str
    user_id: UUID | None
    username: str
    caller: Caller
    expires_at: datetime
    csrf_token: str = field(repr=False)


@dataclass(frozen=True)
class Ended:
    """A session that has ended; ``because`` is one of ``ENDINGS``."""

    because: str


def begin_session(
    access: Access,
    conn: Connection,
    who: Person | Credential,
    method: Method,
    proven_at: datetime | None = None,
) -> tuple[str, Session]:
    """Store a new session; return the cookie's value, which is nowhere else, and the session.

    ``proven_at`` is when somebody else saw the proof; None for a proof that was seen just now.
    """
    now = access.clock.now()
    proven = min(proven_at or now, now)
    value = secrets.token_urlsafe(COOKIE_BYTES)
    if isinstance(who, Person):
        row = SessionRow(
            uuid4(), method, who.user_id, who.username, who.epoch, who.credential, who.rights,
            now, now, proven, None,
        )  # fmt: skip
    else:
        row = SessionRow(
            uuid4(), method, None, BOOTSTRAP, 0, who.digest, b"", now, now, now, None
        )  # fmt: skip
    conn.execute(
        "INSERT INTO access.sessions (session_id, digest, method, user_id, username, epoch, "
        "credential, rights, created_at, last_seen_at, proven_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            row.session_id, _digest(value), method, row.user_id, row.username, row.epoch,
            row.credential, row.rights, now, now, row.proven_at,
        ),
    )  # fmt: skip
    return value, _opened(access, row, _caller(row, who), value)


def find_session(
    access: Access, value: str, visit: Visit, *, used: bool = True
) -> Session | Ended | None:
    """Return the session of a cookie, why it has ended, or None for a cookie of no session.

    Without ``used`` it grows idle all the same: a page that looks by itself is no person. Raises PostgresUnavailable.
    """
    now = access.clock.now()
    with access.transaction("looking for a session") as conn:
        row = _row(conn, value)
        if row is None:
            return None
        if row.ended_because is not None:
            return Ended(row.ended_because)
        who = _holder(access, conn, row)
        because = _ending(access, row, who, now)
        if because is not None or who is None:
            _end(access, conn, row, because or "disabled", visit)
            return Ended(because or "disabled")
        if used and now - row.last_seen_at > _seen_interval(access):
            conn.execute(
                "UPDATE access.sessions SET last_seen_at = %s WHERE session_id = %s",
                (now, row.session_id),
            )
    return _opened(access, row, _caller(row, who), value)


def end_session(access: Access, session_id: UUID, visit: Visit) -> None:
    """End a session because its holder says so; once, however often it is said."""
    with access.transaction("signing out") as conn:
        row = _row_of(conn, session_id)
        if row is not None and row.ended_because is None:
            _end(access, conn, row, "signed_out", visit)


def note_proof(access: Access, conn: Connection, session: Session) -> datetime:
    """Note that the holder has just proved who it is; return the moment."""
    now = access.clock.now()
    conn.execute(
        "UPDATE access.sessions SET proven_at = %s WHERE session_id = %s AND ended_at IS NULL",
        (now, session.session_id),
    )
    return now


def open_row(
    access: Access, conn: Connection, session_id: UUID | None, visit: Visit
) -> SessionRow | None:
    """Return the row of a session that is open, locked; one that should have ended ends, and is None."""
    row = _row_of(conn, session_id) if session_id is not None else None
    if row is None or row.ended_because is not None:
        return None
    because = _ending(access, row, _holder(access, conn, row), access.clock.now())
    if because is None:
        return row
    _end(access, conn, row, because, visit)
    return None


def note_proof_elsewhere(
    access: Access, conn: Connection, row: SessionRow, proven_at: datetime
) -> None:
    """Note that a provider has seen a proof by the holder of an open session."""
    conn.execute(
        "UPDATE access.sessions SET proven_at = greatest(proven_at, %s) WHERE session_id = %s",
        (min(proven_at, access.clock.now()), row.session_id),
    )


def forget_sessions(access: Access, conn: Connection) -> None:
    """Delete what ended or expired a day ago."""
    now = access.clock.now()
    oldest = now - timedelta(seconds=access.settings.absolute_s) - KEPT
    conn.execute(
        "DELETE FROM access.sessions WHERE created_at < %s OR ended_at < %s", (oldest, now - KEPT)
    )


def _holder(access: Access, conn: Connection, row: SessionRow) -> Person | Credential | None:
    """Return who the session stands for, as that is now; None for nobody any more."""
    if row.user_id is not None:
        return person_with_id(conn, row.user_id)
    credential = read_credential(access.bootstrap_file)
    try:
        if credential is not None:
            check_unspent(conn, credential)
    except BootstrapSpent:
        return None
    return credential


def _ending(
    access: Access, row: SessionRow, who: Person | Credential | None, now: datetime
) -> str | None:
    """Return why a session has ended, the first reason of several."""
    if now - row.created_at >= timedelta(seconds=access.settings.absolute_s):
        return "expired"
    if now - row.last_seen_at >= timedelta(seconds=access.settings.idle_s):
        return "idle"
    return _change_of(row, who)


def _change_of(row: SessionRow, who: Person | Credential | None) -> str | None:
    if not isinstance(who, Person):
        same = who is not None and hmac.compare_digest(who.digest, row.credential)
        return None if same else "disabled" if row.user_id is not None else "spent"
    changed = {
        "disabled": not who.enabled,
        "restored": who.epoch != row.epoch,
        "password_changed": not hmac.compare_digest(who.credential, row.credential),
        "roles_changed": not hmac.compare_digest(who.rights, row.rights),
    }
    return next((because for because, true in changed.items() if true), None)


def _end(access: Access, conn: Connection, row: SessionRow, because: str, visit: Visit) -> None:
    ended = conn.execute(
        "UPDATE access.sessions SET ended_at = %s, ended_because = %s "
        "WHERE session_id = %s AND ended_at IS NULL",
        (access.clock.now(), because, row.session_id),
    )
    if not ended.rowcount:
        return
    entry = AuditEntry(
        "session.end", "success", _name(row), "session", str(row.session_id),
        visit.source, details={"because": because},
    )  # fmt: skip
    access.audit.record(conn, entry, visit.correlation_id)


def _name(row: SessionRow) -> str:
    return BOOTSTRAP if row.user_id is None else f"{USER_PREFIX}{row.username}"


def _caller(row: SessionRow, who: Person | Credential) -> Caller:
    allowed = who.permissions if isinstance(who, Person) else BOOTSTRAP_PERMISSIONS
    return Caller(_name(row), allowed, proven_at=row.proven_at)


def _opened(access: Access, row: SessionRow, caller: Caller, value: str) -> Session:
    expires_at = row.created_at + timedelta(seconds=access.settings.absolute_s)
    return Session(
        row.session_id, row.method, row.user_id, row.username, caller, expires_at, csrf_of(value)
    )


def csrf_of(value: str) -> str:
    """Return the token of a session's forms: whoever has it has had the cookie."""
    return hmac.new(value.encode("utf-8", "surrogateescape"), b"csrf", hashlib.sha256).hexdigest()


def _seen_interval(access: Access) -> timedelta:
    # Written at most once a minute, and often enough for a short limit.
    return timedelta(seconds=min(60.0, access.settings.idle_s / 10))


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest()


_COLUMNS: Final = (
    "session_id, method, user_id, username, epoch, credential, rights, created_at, "
    "last_seen_at, proven_at, ended_because"
)


def _row(conn: Connection, value: str) -> SessionRow | None:
    query = f"SELECT {_COLUMNS} FROM access.sessions WHERE digest = %s"
    with conn.cursor(row_factory=class_row(SessionRow)) as cursor:
        return cursor.execute(query, (_digest(value),)).fetchone()


def _row_of(conn: Connection, session_id: UUID) -> SessionRow | None:
    query = f"SELECT {_COLUMNS} FROM access.sessions WHERE session_id = %s FOR UPDATE"
    with conn.cursor(row_factory=class_row(SessionRow)) as cursor:
        return cursor.execute(query, (session_id,)).fetchone()
