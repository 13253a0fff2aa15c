"""An archive is loaded while it is checked: whatever is wrong with it, nothing of it stays."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from restore_service import events as ev
from restore_service import hashing, space
from restore_service.commands import RestoreInstance
from restore_service.context import AcceptedRestore, RestoreContext
from restore_service.handlers.run_accepted import run_accepted
from restore_service.hashing import Hashing, digest_loaded
from restore_service.staging import leftover_schemas
from shared.archive import members
from shared.archive.copybinary import encode_stream, encode_tuple
from shared.archive.keyfile import KeyFile
from shared.errors import (
    ArchiveDamaged,
    ArchiveMalformed,
    Cancelled,
    ManifestMismatch,
    PostgresUnavailable,
    RestoreNoSpace,
    SignerUntrusted,
)
from shared.instance.digest import InstanceDigest, digest_schema
from tests.plugins.instance import eventually
from tests.plugins.postgres import TestPostgres
from tests.restoring import Restoring
from tests.unit.archive.building import (
    BACKUP_ID,
    IDENTITY,
    INSTANCE_ID,
    SIGNER,
    TABLE,
    TABLES,
    Handmade,
    build,
    compress,
    entry_of,
    project,
)

SOUND = build({TABLE: [project("one"), project("two", number=2)]})
# PostgreSQL takes neither; the archive itself is whole and signed.
NOT_TEXT = build({TABLE: [project(b"\xff")]})
# Both rows it takes; which rule they break shows when the indexes are built.
TWICE = build({TABLE: [project("one"), project("two")]})
NO_NAME = build({TABLE: [[*project("")[:1], None, *project("")[2:]]]})


# A chapter whose first row PostgreSQL refuses, and whose last part is broken off.
NOT_TEXT_AND_MORE = build(
    {TABLE: [project(b"\xff"), project(random.Random(1).randbytes(400_000).hex(), number=2)]},
    rows_a_part=1,
)


def another_digest() -> bytes:
    """Return an archive whose signed manifest describes other rows than it has."""
    parts, entries = [], {}
    for table in TABLES:
        rows = [project("there")] if table == TABLE else []
        stored = compress(encode_stream(map(encode_tuple, rows)))
        parts.append((members.part_name(table, 0), stored))
        entries[table] = entry_of(table, rows)
    return Handmade(parts, entries | {TABLE: entry_of(TABLE, [project("told")])}).sealed()


@pytest.fixture
def restoring(postgres: TestPostgres, tmp_path: Path) -> Iterator[Restoring]:
    made = Restoring.create(postgres, tmp_path)
    yield made
    made.context.pool.close()


def restore(restoring: Restoring, context: RestoreContext, data: bytes, key: KeyFile) -> str:
    """Restore a stored archive until that fails; return the code, when nothing is left of it."""
    before = restoring.position()
    stored = context.backups.create(f"{BACKUP_ID}.age")
    stored.write(data)
    stored.commit()
    restore_id = restoring.requested()
    command = RestoreInstance(
        command_id=uuid4(),
        target_instance_id=context.settings.place.instance_id,
        source_instance_id=INSTANCE_ID,
        sealed_key="00",
        reason="a test",
        backup_id=BACKUP_ID,
    )
    context.accepted[restore_id] = AcceptedRestore(command, key)
    run_accepted(context, restore_id)
    assert restoring.position() == before
    with context.transaction("a test") as conn:
        assert leftover_schemas(conn) == ([], [])
        events = context.store.read_stream(conn, ev.stream_of(restore_id))
    assert events[-1].type == ev.FAILED
    return str(events[-1].data["error"]["code"])


@pytest.mark.parametrize(
    ("data", "known", "code"),
    [
        (SOUND.data, False, SignerUntrusted.code),
        (SOUND.data[:-300], True, ArchiveDamaged.code),
        (NOT_TEXT.data, True, ArchiveMalformed.code),
        (NO_NAME.data, True, ArchiveMalformed.code),
        (TWICE.data, True, ArchiveMalformed.code),
        # Of two faults the one is told that says more.
        (NOT_TEXT.data, False, SignerUntrusted.code),
        (NOT_TEXT.data[:-300], True, ArchiveDamaged.code),
        (NOT_TEXT_AND_MORE.data, True, ArchiveMalformed.code),
        (NOT_TEXT_AND_MORE.data[:-100_000], True, ArchiveDamaged.code),
        (another_digest(), True, ManifestMismatch.code),
    ],
)
def test_what_is_found_wrong_at_the_end_takes_back_what_was_loaded(
    restoring: Restoring, data: bytes, known: bool, code: str
) -> None:
    signers = frozenset({SIGNER.fingerprint} if known else ())
    context = replace(restoring.context, trusted_signers=signers)
    assert restore(restoring, context, data, KeyFile(IDENTITY)) == code


@pytest.mark.parametrize(
    "free",
    [
        # It looked as if there was room, until its parts were decompressed.
        [300 << 20],
        # Others fill the disk meanwhile.
        [1 << 40, 1 << 40, 100 << 20],
    ],
)
def test_where_the_space_ends_during_the_load_it_is_given_up(
    restoring: Restoring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: list[int]
) -> None:
    measured = iter(free)
    last = free[-1]
    monkeypatch.setattr(space, "_free_bytes", lambda _: next(measured, last))
    large = build({TABLE: [project("a" * (8 << 20), number=n) for n in range(4)]}, rows_a_part=1)
    context = restoring.with_restore_settings(database_folder=tmp_path)
    code = restore(restoring, context, large.data, large.key)
    assert code == RestoreNoSpace.code


class TestHashing:
    """Rows are hashed in processes of their own; whatever becomes of those, none is left."""

    @pytest.fixture(autouse=True)
    def filled(self, restoring: Restoring, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(hashing, "ALONE_BYTES", 0)
        monkeypatch.setattr(hashing, "RANGE_PAGES", 2)
        with psycopg.connect(restoring.place.dsn("secryn_projector")) as conn:
            conn.execute(
                "INSERT INTO instance.projects SELECT gen_random_uuid(), 'p' || n, '', now(), 'me' "
                "FROM generate_series(1, 1000) n"
            )
        yield

        def nobody_reads() -> bool:
            with psycopg.connect(restoring.place.dsn()) as conn:
                row = conn.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' "
                    "AND datname = current_database() AND usename = 'secryn_restore'"
                ).fetchone()
            return row == (0,)

        eventually(nobody_reads, "their sessions are over")

    def found(
        self, restoring: Restoring, on_hashed: hashing.OnHashed = lambda *_: None
    ) -> InstanceDigest:
        dsn = restoring.context.settings.postgres.dsn
        with psycopg.connect(dsn, autocommit=True) as conn:
            by = Hashing(dsn, processes=2, rehearsing=False)
            return digest_loaded(conn, "instance", by, on_hashed)

    def test_shared_out_it_is_the_digest_of_the_whole(self, restoring: Restoring) -> None:
        told: list[tuple[int, int]] = []
        with psycopg.connect(restoring.place.dsn()) as conn:
            whole = digest_schema(conn, "instance")
        assert self.found(restoring, lambda *at: told.append(at)) == whole
        assert told[-1][1] == sum(table.rows for table in whole.tables.values()) >= 1000

    def test_whoever_watches_may_end_it(self, restoring: Restoring) -> None:
        def cancel(*_: int) -> None:
            raise Cancelled("no more")

        with pytest.raises(Cancelled):
            self.found(restoring, cancel)

    @pytest.mark.parametrize("processes", [1, 4])
    @pytest.mark.parametrize("pages", [2, 1 << 20], ids=["many ranges", "one a table"])
    def test_a_session_that_is_lost_is_a_postgres_that_is_away(
        self, restoring: Restoring, processes: int, pages: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hashing, "RANGE_PAGES", pages)
        lost = Hashing("host=127.0.0.1 port=1", processes, rehearsing=False)
        dsn = restoring.context.settings.postgres.dsn
        with (
            psycopg.connect(dsn, autocommit=True) as conn,
            pytest.raises(PostgresUnavailable),
        ):
            digest_loaded(conn, "instance", lost, lambda *_: None)
