"""The schema ``access``: what both services keep about who comes in.

It belongs to the place: it lies outside of schema ``instance`` and of every archive, and no
restore changes it. It holds no password, no cookie and no token: only digests of random values.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import errors, sql

from shared.database import Connection, Lock, Pool, lock_transaction, postgres_faults
from shared.errors import UnknownSetting

_SCHEMA: LiteralString = """
CREATE SCHEMA IF NOT EXISTS access;
CREATE TABLE IF NOT EXISTS access.sessions (
    session_id uuid PRIMARY KEY,
    digest bytea NOT NULL UNIQUE,
    method text NOT NULL,
    user_id uuid,
    username text NOT NULL,
    epoch bigint NOT NULL,
    credential bytea NOT NULL,
    rights bytea NOT NULL,
    created_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    proven_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended_because text
);
CREATE INDEX IF NOT EXISTS sessions_by_age ON access.sessions (created_at);
CREATE TABLE IF NOT EXISTS access.attempts (
    key bytea PRIMARY KEY,
    failures integer NOT NULL,
    last_at timestamptz NOT NULL,
    blocked_until timestamptz
);
CREATE INDEX IF NOT EXISTS attempts_by_age ON access.attempts (last_at);
CREATE TABLE IF NOT EXISTS access.devices (
    digest bytea NOT NULL,
    account bytea NOT NULL,
    used_at timestamptz NOT NULL,
    PRIMARY KEY (digest, account)
);
CREATE INDEX IF NOT EXISTS devices_by_account ON access.devices (account, used_at);
CREATE TABLE IF NOT EXISTS access.tokens (
    token_id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    digest bytea NOT NULL,
    permissions text[] NOT NULL,
    unattended boolean NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_by text,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE TABLE IF NOT EXISTS access.restored (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    last_at timestamptz NOT NULL
);
"""


def migrate_access(pool: Pool, owner_role: str | None) -> None:
    """Make the tables where they are missing, owned by ``owner_role``.

    Raises UnknownSetting when the schema belongs to a role that this one is no member of,
    PostgresUnavailable.
    """
    try:
        with postgres_faults("making the schema access"), pool.connection() as conn:
            _make(conn, owner_role)
    except errors.InsufficientPrivilege:
        raise UnknownSetting(
            "the schema access belongs to another PostgreSQL role",
            hint="Make both services' roles members of one role and name it: access.owner_role.",
        ) from None
    except (errors.UndefinedObject, errors.InvalidParameterValue):
        raise UnknownSetting(f"access.owner_role: there is no role {owner_role!r}") from None


def _make(conn: Connection, owner_role: str | None) -> None:
    lock_transaction(conn, Lock.MIGRATION)
    if owner_role is not None:
        conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner_role)))
    conn.execute(_SCHEMA)
