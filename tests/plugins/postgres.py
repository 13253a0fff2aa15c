"""A real PostgreSQL for the tests: one server a session, started when a test first asks for it.

    def test_rows(postgres):
        dsn = postgres.fresh_database()          # an empty database; superuser; as it stands
        place = postgres.fresh_place()           # as `secryn up` makes it: roles, rights
        place.dsn("secryn_backup")               # that role's own dsn to the same database

Databases are dropped with the server. The server does not flush (it need not survive).
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from deploy.embedded.account import server_account
from deploy.embedded.database import ROLES, ensure_database, write_passfile
from deploy.embedded.postgres import SUPERUSER, PostgresServer, stop_postgres
from deploy.embedded.process import free_ports, mark_of


@dataclass(frozen=True)
class PlaceDatabase:
    """A database with the roles and rights of a place."""

    server: PostgresServer
    database: str
    passfiles: dict[str, Path]

    def dsn(self, role: str = SUPERUSER) -> str:
        """Return the dsn of one role: ``secryn_projector``, ``secryn_backup``, ..."""
        passfile = self.passfiles.get(role, self.server.passfile)
        return self.server.dsn(self.database, role, passfile)


@dataclass(frozen=True)
class TestPostgres:
    """The session's server."""

    __test__ = False

    server: PostgresServer
    passfiles: dict[str, Path]

    @property
    def dsn(self) -> str:
        """The superuser's dsn to the database ``postgres``."""
        return self.server.dsn()

    def fresh_database(self) -> str:
        """Return the superuser's dsn to a new, empty database."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.server.dsn(name)

    def fresh_place(self) -> PlaceDatabase:
        """Return a new database with the stack's roles and their rights."""
        name = f"place_{secrets.token_hex(6)}"
        ensure_database(self.dsn, name, self.passfiles)
        return PlaceDatabase(self.server, name, self.passfiles)


@pytest.fixture(scope="session")
def postgres() -> Iterator[TestPostgres]:
    account = server_account()
    folder = Path(tempfile.mkdtemp(prefix="secryn-test-pg-"))
    try:
        if account is not None:
            os.chown(folder, 0, account.gid)
            folder.chmod(0o710)
        passfiles = {role: folder / f"{role}.pass" for role in (SUPERUSER, *ROLES)}
        passwords = {role: write_passfile(path, role) for role, path in passfiles.items()}
        server = PostgresServer(
            folder / "postgres", free_ports(1)[0], folder / "postgres.log",
            passfiles.pop(SUPERUSER), account, fast_and_unsafe=True,
        )  # fmt: skip
        server.create(passwords[SUPERUSER])
        process = server.start(die_with_parent=True)
        mark = mark_of(process.pid)
        assert mark is not None
        try:
            server.wait_ready(process)
            yield TestPostgres(server, passfiles)
        finally:
            stop_postgres(mark, grace_s=10)
            process.wait()
    finally:
        shutil.rmtree(folder)
