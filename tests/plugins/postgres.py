"""A real PostgreSQL for the tests: one server a session, started when a test first asks for it.

    def test_rows(postgres):
        dsn = postgres.fresh_database()          # an empty database; superuser; as it stands
        place = postgres.fresh_place()           # as `secryn up` makes it: roles, rights
        place.dsn("secryn_backup")               # that role's own dsn to the same database

With ``--stack=containers`` it is a container's, with ``--stack=external`` one that runs already
(``--postgres-url``, a superuser's). Databases are dropped with the server, or at the end. A server
of ours does not flush (it need not survive).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo, sql

from deploy.embedded.account import server_account
from deploy.embedded.configs import strip_password
from deploy.embedded.database import ROLES, ensure_database, passfile_line, write_passfile
from deploy.embedded.postgres import SUPERUSER, PostgresServer, stop_postgres
from deploy.embedded.process import free_ports, mark_of
from shared.secretfiles import write_secret_file
from tests.containers.servers import postgres_container
from tests.plugins.containers import CONTAINERS, EXTERNAL


@dataclass(frozen=True)
class PlaceDatabase:
    """A database with the roles and rights of a place."""

    superuser: str
    passfiles: dict[str, Path]

    def dsn(self, role: str = SUPERUSER) -> str:
        """Return the dsn of one role: ``secryn_projector``, ``secryn_backup``, ..."""
        if role not in self.passfiles:
            return self.superuser
        passfile = str(self.passfiles[role])
        return conninfo.make_conninfo(self.superuser, user=role, passfile=passfile)


@dataclass(frozen=True)
class TestPostgres:
    """The session's server; ``dsn`` is the superuser's to the database ``postgres``."""

    __test__ = False

    dsn: str
    passfiles: dict[str, Path]
    data: Path | None = None
    made: list[str] = field(default_factory=list)

    def fresh_database(self) -> str:
        """Return the superuser's dsn to a new, empty database."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        self.made.append(name)
        return conninfo.make_conninfo(self.dsn, dbname=name)

    def fresh_place(self) -> PlaceDatabase:
        """Return a new database with the stack's roles and their rights."""
        name = f"place_{secrets.token_hex(6)}"
        ensure_database(self.dsn, name, self.passfiles)
        self.made.append(name)
        return PlaceDatabase(conninfo.make_conninfo(self.dsn, dbname=name), self.passfiles)

    def data_folder(self) -> Path:
        """Return where the server's files are; skip the test where they cannot be seen."""
        if self.data is None:
            pytest.skip("the server's own files are read: --stack=embedded only")
        return self.data

    def drop_all(self) -> None:
        """Drop every database that was made here."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for name in self.made:
                drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
                connection.execute(drop.format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[TestPostgres]:
    folder = Path(tempfile.mkdtemp(prefix="secryn-test-pg-"))
    try:
        stack = request.config.getoption("--stack")
        if stack == CONTAINERS:
            with postgres_container(request.getfixturevalue("engine"), SUPERUSER) as url:
                yield _elsewhere(folder, url)
        elif stack == EXTERNAL:
            found = _elsewhere(folder, request.config.getoption("--postgres-url"))
            yield found
            found.drop_all()
        else:
            with embedded_postgres(folder) as found:
                yield found
    finally:
        shutil.rmtree(folder)


def _elsewhere(folder: Path, url: str) -> TestPostgres:
    """Take a server that others share: every worker makes the same passwords for its roles."""
    password = str(conninfo.conninfo_to_dict(url).get("password", ""))
    dsn = strip_password(url, folder / "superuser.pass")
    host = str(conninfo.conninfo_to_dict(dsn)["host"])
    passfiles = {role: folder / f"{role}.pass" for role in ROLES}
    for role, path in passfiles.items():
        derived = hashlib.sha256(f"{role} {password}".encode()).hexdigest()
        write_secret_file(path, passfile_line(host, role, derived))
    return TestPostgres(conninfo.make_conninfo(dsn, dbname="postgres"), passfiles)


@contextmanager
def embedded_postgres(folder: Path) -> Iterator[TestPostgres]:
    """Run a server of ours, its files in ``folder``."""
    account = server_account()
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
        yield TestPostgres(server.dsn(), passfiles, server.data)
    finally:
        stop_postgres(mark, grace_s=10)
        process.wait()
