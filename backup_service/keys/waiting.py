"""One-time keys from the end of a backup until they are viewed or expire.

A waiting key is sealed under a key-encryption key of its own, which lies in a file outside of the
database and of the storage. Viewing replaces the sealed key by the same key sealed to the viewer's
one-time recipient, in one statement; expiry by nothing. The row is committed first, and then the
file destroyed: what is left in heap, WAL or an old dump opens nothing.

Who changes a key holds the append lock of the event store: its state and its events are one.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from psycopg.rows import class_row

from backup_service.keys.expiry import Wait, warnings_within
from backup_service.keys.keks import KekFolder
from backup_service.settings import KeySettings
from shared.archive.age import parse_recipient, recipient_fingerprint, seal
from shared.database import Connection, missing
from shared.errors import KeyAlreadyViewed, KeyExpired, KeyNotReady

_SCHEMA = """
CREATE TABLE IF NOT EXISTS backup.waiting_keys (
    backup_id uuid PRIMARY KEY,
    waits_since timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    warnings_s integer[] NOT NULL,
    sealed_waiting bytea,
    sealed_viewed bytea,
    request_id uuid,
    recipient text,
    viewed_by text,
    viewed_at timestamptz,
    repeat_until timestamptz,
    expired_at timestamptz
);
"""
# What is looked at every few seconds; the rows of keys that are gone are never read.
_INDEXES = """
CREATE INDEX keys_waiting ON backup.waiting_keys (expires_at, backup_id)
    WHERE sealed_waiting IS NOT NULL;
CREATE INDEX keys_repeatable ON backup.waiting_keys (repeat_until)
    WHERE sealed_viewed IS NOT NULL;
CREATE INDEX keys_expired ON backup.waiting_keys (expired_at) WHERE expired_at IS NOT NULL;
"""
_WAIT = "backup_id, waits_since AS since, expires_at, warnings_s"

KeyState = Literal["waiting", "viewed", "expired", "gone"]


@dataclass(frozen=True)
class Viewer:
    """Who asks for a key: by which request, and for which one-time recipient."""

    name: str
    request_id: UUID
    recipient: str


@dataclass(frozen=True)
class Viewing:
    """What a viewing gave: the key file sealed to the viewer, and until when it may be repeated.

    ``first`` is false for a repeat.
    """

    sealed: bytes
    first: bool
    repeat_until: datetime


class WaitingKeys:
    """The waiting keys of a place; every method runs in the caller's transaction."""

    def __init__(self, settings: KeySettings) -> None:
        self.keks = KekFolder(settings.folder)
        self._lifetime_s = settings.expire_after_s
        self._repeat_window = timedelta(seconds=settings.repeat_window_s)

    def migrate(self, conn: Connection) -> None:
        """Make the table where it is missing."""
        conn.execute(_SCHEMA)
        if missing(conn, "backup.keys_waiting"):
            conn.execute(_INDEXES)

    def deposit(self, conn: Connection, key_file_text: str, wait: Wait) -> None:
        """Let a key wait; in the transaction that announces its backup.

        The key-encryption key is on the disk before the transaction can commit.
        """
        conn.execute(
            "INSERT INTO backup.waiting_keys "
            "(backup_id, waits_since, expires_at, warnings_s, sealed_waiting) "
            "VALUES (%s, %s, %s, %s, %s)",
            (
                wait.backup_id,
                wait.since,
                wait.expires_at,
                list(wait.warnings_s),
                self.keks.seal(wait.backup_id, key_file_text.encode()),
            ),
        )

    def wait_of(self, backup_id: UUID, now: datetime) -> Wait:
        """Return how long a key will wait that begins to now."""
        expires_at = now + timedelta(seconds=self._lifetime_s)
        return Wait(backup_id, now, expires_at, warnings_within(self._lifetime_s))

    def facts(self, conn: Connection, backup_id: UUID) -> dict[str, Any]:
        """Return what is left of a backup's key here, as the history shows it."""
        row = conn.execute(
            "SELECT sealed_waiting IS NOT NULL, expires_at, viewed_by, viewed_at, expired_at "
            "FROM backup.waiting_keys WHERE backup_id = %s",
            (backup_id,),
        ).fetchone()
        waits, expires_at, viewed_by, viewed_at, expired_at = row or (False, None, None, None, None)
        state: KeyState = "gone"
        if waits and self.keks.holds(backup_id):
            state = "waiting"
        elif viewed_at is not None:
            state = "viewed"
        elif expired_at is not None:
            state = "expired"
        return {
            "key_state": state,
            "key_expires_at": _iso(expires_at),
            "key_viewed_by": viewed_by,
            "key_viewed_at": _iso(viewed_at),
            "key_expired_at": _iso(expired_at),
        }

    def waiting(self, conn: Connection, before: datetime | None = None) -> list[Wait]:
        """Return the keys that wait, the first to expire first; only those due ``before``."""
        with conn.cursor(row_factory=class_row(Wait)) as cursor:
            return cursor.execute(
                f"SELECT {_WAIT} FROM backup.waiting_keys WHERE sealed_waiting IS NOT NULL "
                "AND (%(before)s::timestamptz IS NULL OR expires_at <= %(before)s) "
                "ORDER BY expires_at, backup_id".encode(),
                {"before": before},
            ).fetchall()

    def wait(self, conn: Connection, backup_id: UUID) -> Wait | None:
        """Return how long a key waits yet, or None for one that does not; its row is locked."""
        with conn.cursor(row_factory=class_row(Wait)) as cursor:
            return cursor.execute(
                f"SELECT {_WAIT} FROM backup.waiting_keys "
                "WHERE backup_id = %s AND sealed_waiting IS NOT NULL FOR UPDATE".encode(),
                (backup_id,),
            ).fetchone()

    def view(self, conn: Connection, backup_id: UUID, viewer: Viewer, now: datetime) -> Viewing:
        """Take the key, or repeat the viewing of the same request for a while.

        Of many callers one is first. The caller commits and then has the key-encryption key
        destroyed. Raises KeyNotReady, KeyAlreadyViewed (with when and by whom), KeyExpired,
        KeyUnreadable.
        """
        row = conn.execute(
            "SELECT sealed_waiting FROM backup.waiting_keys WHERE backup_id = %s FOR UPDATE",
            (backup_id,),
        ).fetchone()
        if row is None:
            raise KeyNotReady(f"no key waits for the backup {backup_id}")
        if row[0] is None:
            return self._view_again(conn, backup_id, viewer, now)
        key = self.keks.open(backup_id, bytes(row[0]))
        until = now + self._repeat_window
        sealed = seal(key, [parse_recipient(viewer.recipient)])
        fingerprint = recipient_fingerprint(viewer.recipient)
        conn.execute(
            "UPDATE backup.waiting_keys SET sealed_waiting = NULL, sealed_viewed = %s, "
            "request_id = %s, recipient = %s, viewed_by = %s, viewed_at = %s, repeat_until = %s "
            "WHERE backup_id = %s",
            (sealed, viewer.request_id, fingerprint, viewer.name, now, until, backup_id),
        )
        return Viewing(sealed, True, until)

    def _view_again(
        self, conn: Connection, backup_id: UUID, viewer: Viewer, now: datetime
    ) -> Viewing:
        repeated = self.repeat(conn, backup_id, viewer, now)
        if repeated is not None:
            return repeated
        row = conn.execute(
            "SELECT viewed_by, viewed_at, expired_at FROM backup.waiting_keys WHERE backup_id = %s",
            (backup_id,),
        ).fetchone()
        assert row is not None
        viewed_by, viewed_at, expired_at = row
        if viewed_at is None:
            at = "" if expired_at is None else f" at {_told(expired_at)}"
            raise KeyExpired(f"the key of {backup_id} expired{at}: nobody had viewed it")
        raise KeyAlreadyViewed(
            f"the key of {backup_id} was viewed by {viewed_by} at {_told(viewed_at)}"
        )

    def repeat(
        self, conn: Connection, backup_id: UUID, viewer: Viewer, now: datetime
    ) -> Viewing | None:
        """Return what this very request was given, as long as it may be; None for any other.

        It takes nothing: a key that waits goes on waiting.
        """
        row = conn.execute(
            "SELECT sealed_viewed, recipient, repeat_until FROM backup.waiting_keys "
            "WHERE backup_id = %s AND request_id = %s AND sealed_viewed IS NOT NULL "
            "AND repeat_until > %s",
            (backup_id, viewer.request_id, now),
        ).fetchone()
        if row is None:
            return None
        sealed, recipient, until = row
        if not hmac.compare_digest(recipient, recipient_fingerprint(viewer.recipient)):
            return None
        return Viewing(bytes(sealed), False, until)

    def forget(self, conn: Connection, backup_id: UUID, request_id: UUID) -> bool:
        """End the repeating of a viewing early; tell whether there was one of that request."""
        done = conn.execute(
            "UPDATE backup.waiting_keys SET sealed_viewed = NULL "
            "WHERE backup_id = %s AND request_id = %s AND sealed_viewed IS NOT NULL",
            (backup_id, request_id),
        )
        return done.rowcount > 0

    def put_off(
        self, conn: Connection, backup_id: UUID, expires_at: datetime, warnings_s: Sequence[int]
    ) -> None:
        """Note when a key expires, and the warnings that are still to be given."""
        conn.execute(
            "UPDATE backup.waiting_keys SET expires_at = %s, warnings_s = %s WHERE backup_id = %s",
            (expires_at, list(warnings_s), backup_id),
        )

    def expire(self, conn: Connection, backup_id: UUID, now: datetime) -> None:
        """End the wait of a key that nobody viewed; the caller commits, then destroys."""
        conn.execute(
            "UPDATE backup.waiting_keys SET sealed_waiting = NULL, expired_at = %s "
            "WHERE backup_id = %s",
            (now, backup_id),
        )

    def give_up(self, conn: Connection, backup_id: UUID) -> None:
        """End the wait of a key whose backup is no more, and every repeat; the watch destroys."""
        conn.execute(
            "UPDATE backup.waiting_keys SET sealed_waiting = NULL, sealed_viewed = NULL "
            "WHERE backup_id = %s",
            (backup_id,),
        )

    def end_repeats(self, conn: Connection, now: datetime) -> None:
        """Forget the viewings that may not be repeated any more."""
        conn.execute(
            "UPDATE backup.waiting_keys SET sealed_viewed = NULL "
            "WHERE sealed_viewed IS NOT NULL AND repeat_until < %s",
            (now,),
        )

    def among(self, conn: Connection, backup_ids: Collection[UUID]) -> set[UUID]:
        """Return those of ``backup_ids`` whose keys wait."""
        rows = conn.execute(
            "SELECT backup_id FROM backup.waiting_keys "
            "WHERE backup_id = ANY(%s) AND sealed_waiting IS NOT NULL",
            (list(backup_ids),),
        )
        return {row[0] for row in rows}

    def count_expired(self, conn: Connection) -> int:
        """Return how many keys expired that nobody had viewed."""
        row = conn.execute(
            "SELECT count(*) FROM backup.waiting_keys WHERE expired_at IS NOT NULL"
        ).fetchone()
        return int(row[0]) if row else 0


def _told(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
