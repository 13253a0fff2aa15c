"""The database of a place: its roles, their passwords and their rights.

One database holds the schemas ``instance``, ``backup`` and ``restore``; each is made and owned by
the role of its process. ``access`` is made and used by both services: a role without a password
owns it, of which theirs are members. A role's rights on the instance's tables are default privileges of the
projector's role, so that they hold for the staging schema of a restore as well.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from shared.database import LOCK_SPACE, Lock, check_version
from shared.errors import StackStateInvalid
from shared.secretfiles import read_secret_file, write_secret_file

PROJECTOR, BACKUP, RESTORE, PLATFORM = (
    "secryn_projector", "secryn_backup", "secryn_restore", "secryn_platform",
)  # fmt: skip
ROLES = (PROJECTOR, BACKUP, RESTORE, PLATFORM)
ACCESS = "secryn_access"
DATABASE = "secryn"
PASSWORD_BYTES = 24


def write_passfile(path: Path, role: str) -> str:
    """Write a libpq passfile with a new password for ``role``, or keep the one there; return it."""
    if not path.exists():
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        write_secret_file(path, passfile_line("127.0.0.1", role, password))
    return read_password(path)


def passfile_line(host: str, role: str, password: str) -> bytes:
    """Return the line by which libpq finds the password of ``role`` at ``host`` and nowhere else."""
    return f"{host}:*:*:{role}:{password}\n".encode()


def read_password(passfile: Path) -> str:
    """Return the password of a passfile that ``write_passfile`` made."""
    try:
        return read_secret_file(passfile).decode("ascii").split(":", 4)[4]
    except (IndexError, UnicodeDecodeError) as error:
        raise StackStateInvalid(f"{passfile} is not a passfile") from error


def ensure_database(dsn: str, database: str, passfiles: Mapping[str, Path]) -> None:
    """Make the roles, the database and the rights, or bring them up to date; as superuser.

    ``passfiles`` names the passfile of every role of ``ROLES``. Two at once wait for each other.
    Raises StackUnsupportedServer when the server is too old; nothing is made then.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        check_version(connection.info.server_version)
        connection.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK_SPACE, Lock.MIGRATION])
        _ensure_roles(connection, passfiles)
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database])
        if known.fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        with psycopg.connect(dsn, dbname=database) as inside:
            for statement in _rights(database):
                inside.execute(statement)


def _ensure_roles(
    connection: psycopg.Connection[tuple[object, ...]], passfiles: Mapping[str, Path]
) -> None:
    found = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(ROLES)]
    )
    known = {row[0] for row in found}
    group = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ACCESS])
    if group.fetchone() is None:
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(ACCESS)))
    for role in ROLES:
        # The verifier is computed here: a password in a statement could reach the server's log.
        verifier = connection.pgconn.encrypt_password(
            read_password(passfiles[role]).encode(), role.encode(), b"scram-sha-256"
        )
        command = "ALTER" if role in known else "CREATE"
        connection.execute(
            sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                sql.SQL(command), sql.Identifier(role), sql.Literal(verifier.decode())
            )
        )


def _rights(database: str) -> list[sql.Composed]:
    name = sql.Identifier(database)
    readers = sql.SQL(", ").join(sql.Identifier(role) for role in (BACKUP, RESTORE, PLATFORM))
    everyone = sql.SQL(", ").join(sql.Identifier(role) for role in ROLES)
    makers = sql.SQL(", ").join(
        sql.Identifier(role) for role in (PROJECTOR, BACKUP, RESTORE, ACCESS)
    )
    owner, restore = sql.Identifier(PROJECTOR), sql.Identifier(RESTORE)
    templates = [
        "REVOKE ALL ON DATABASE {name} FROM PUBLIC",
        "GRANT CONNECT ON DATABASE {name} TO {everyone}",
        "GRANT CREATE, TEMPORARY ON DATABASE {name} TO {makers}",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE ON SCHEMAS TO {readers}",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {readers}",
        # A restore replaces what the projector owns, and ends sessions that stand in its way.
        "GRANT {owner} TO {restore}",
        "GRANT pg_signal_backend, pg_read_all_stats TO {restore}",
        "GRANT {access} TO {backup}, {restore}",
    ]
    return [
        sql.SQL(template).format(
            name=name,
            everyone=everyone,
            makers=makers,
            owner=owner,
            readers=readers,
            restore=restore,
            backup=sql.Identifier(BACKUP),
            access=sql.Identifier(ACCESS),
        )
        for template in templates
    ]
