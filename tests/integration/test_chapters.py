"""What was loaded is compared with what stands in the archive, in its order, where that is enough.

It is enough where a signed receipt says that the rows of this very file were compared with its
manifest before. Whatever comes out in another way than it went in, the digest decides.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from restore_service import hasher, hashing, loading
from restore_service.chapters import Chapter
from restore_service.commands import RestoreInstance
from restore_service.comparing import Compared, compare_loaded
from restore_service.context import AcceptedRestore
from restore_service.hashing import Hashers, Hashing
from restore_service.loading import Loaded, load_archive
from restore_service.record import Record
from restore_service.run import Step
from restore_service.space import SpaceWatch
from restore_service.staging import drop_schema, owner_connection, staging_name
from shared.archive.keyfile import KeyFile
from shared.archive.verify import KEYRING
from shared.database import Connection
from shared.errors import ManifestMismatch, RestoreFailedError
from tests.plugins.postgres import TestPostgres
from tests.restoring import Restoring
from tests.unit.archive.building import (
    BACKUP_ID,
    IDENTITY,
    INSTANCE_ID,
    SIGNER,
    TABLE,
    build,
    data_key_row,
    project,
)

ROWS = 3000
# Rows of all sizes: some of a page are left empty, and some are stored elsewhere.
NAMES = [f"{number}-" + "x" * (number * 37 % 3000) for number in range(ROWS)]
LARGE = build(
    {
        TABLE: [project(name, number=number) for number, name in enumerate(NAMES)],
        KEYRING: [data_key_row()],
    },
    rows_a_part=100,
)


class Watching:
    """A run that notes its steps, and never gives up."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, int | None]] = []
        self.done: list[int] = []

    def step(self, step: Any, total_bytes: int | None = None) -> None:
        self.steps.append((step, total_bytes))

    def advance(self, done_bytes: int, rows: int = 0) -> None:
        self.done.append(done_bytes)

    def look(self) -> None:
        """Go on."""


@dataclass
class Beside:
    """A schema that the archive was loaded into."""

    conn: Connection
    schema: str
    loaded: Loaded
    hashers: Hashers
    run: Watching

    def execute(self, statement: str) -> None:
        self.conn.execute(statement.replace("{}", f'"{self.schema}"').encode())

    def compare(self, said: Mapping[str, str], *, of_ours: bool = True) -> Compared:
        """Compare, with a receipt that says this of the archive; without one, if it says nothing."""
        record = Record(said, of_ours) if said else None
        return compare_loaded(
            self.run, Step, self.conn, self.schema, self.loaded,
            hashers=self.hashers, record=record,
        )  # fmt: skip

    @property
    def facts(self) -> dict[str, str]:
        """Return what a receipt says of an archive that was proven."""
        names = ("backup_id", "sha256", "digest", "signer")
        return {name: self.loaded.checked.facts[name] for name in names}


@pytest.fixture
def beside(
    postgres: TestPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Beside]:
    monkeypatch.setattr(hashing, "ALONE_BYTES", 0)
    monkeypatch.setattr(loading, "CHAPTER_BYTES", 500_000)
    restoring = Restoring.create(postgres, tmp_path)
    with loaded_beside(restoring) as made:
        yield made
    restoring.context.pool.close()


@contextmanager
def loaded_beside(restoring: Restoring) -> Iterator[Beside]:
    context = replace(restoring.context, trusted_signers=frozenset({SIGNER.fingerprint}))
    stored = context.backups.create(f"{BACKUP_ID}.age")
    stored.write(LARGE.data)
    stored.commit()
    command = RestoreInstance(
        command_id=uuid4(),
        target_instance_id=context.settings.place.instance_id,
        source_instance_id=INSTANCE_ID,
        sealed_key="00",
        reason="a test",
        backup_id=BACKUP_ID,
    )
    accepted, schema = AcceptedRestore(command, KeyFile(IDENTITY)), staging_name(uuid4())
    dsn = context.settings.postgres.dsn
    hashing_by = Hashing(dsn, processes=2, rehearsing=False)
    with owner_connection(dsn) as conn, Hashers(hashing_by) as hashers:
        with conn.transaction():
            loaded = load_archive(
                context, accepted, conn, schema,
                space=SpaceWatch(conn, context.settings.restore), hashers=hashers,
                on_progress=lambda *_: None,
            )  # fmt: skip
        yield Beside(conn, schema, loaded, hashers, Watching())
        drop_schema(conn, schema)


def test_what_a_receipt_proves_is_compared_in_order(beside: Beside) -> None:
    chapters = beside.loaded.chapters
    assert len([each for each in chapters if each.table == TABLE]) > 3
    compared = beside.compare(beside.facts)
    assert compared.by == "order"
    assert compared.found.digest == LARGE.manifest.digest
    assert compared.found.tables[TABLE].rows == ROWS
    assert (Step.COMPARE, sum(each.size_bytes for each in chapters)) in beside.run.steps
    assert beside.run.done[-1] == sum(each.size_bytes for each in chapters)


@pytest.mark.parametrize(
    "said",
    [{}, {"sha256": "0" * 64}, {"digest": "0" * 64}, {"signer": "x"}, {"backup_id": "x"}],
    ids=["no receipt", "another file", "another state", "another signer", "another backup"],
)
def test_what_none_proves_is_compared_row_by_row(beside: Beside, said: dict[str, str]) -> None:
    compared = beside.compare(beside.facts | said if said else {})
    assert compared.by == "digest"
    assert compared.found.digest == LARGE.manifest.digest


def test_a_signer_whom_a_caller_names_is_not_taken_at_their_word(beside: Beside) -> None:
    assert beside.compare(beside.facts, of_ours=False).by == "digest"


def test_the_same_number_of_other_rows_is_another_chapter(beside: Beside) -> None:
    def differing(chapters: Sequence[Chapter]) -> Chapter | None:
        return beside.hashers.differing(beside.conn, beside.schema, chapters, beside.run.advance)

    chapters = list(beside.loaded.chapters)
    assert differing(chapters) is None
    # Not one that ends at once: others are asked for behind it.
    chapters[1] = replace(chapters[1], sha256="0" * 64)
    assert differing(chapters) == chapters[1]
    assert differing(beside.loaded.chapters) is None


def test_a_process_that_ends_meanwhile_fails_the_restore(beside: Beside) -> None:
    child = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children")
    for pid in child.read_text().split():
        if hasher.__name__ in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(int(pid), signal.SIGKILL)
    with pytest.raises(RestoreFailedError, match="ended"):
        beside.compare(beside.facts)


def test_rows_that_lie_in_another_order_are_compared_row_by_row(beside: Beside) -> None:
    beside.execute("UPDATE {}.projects SET description = '' WHERE name LIKE '7%'")
    compared = beside.compare(beside.facts)
    assert compared.by == "digest"
    assert compared.found.digest == LARGE.manifest.digest
    assert [step for step, _ in beside.run.steps].count(Step.COMPARE) == 2


SPOILT = {
    "a row is gone": "DELETE FROM {}.projects WHERE name LIKE '1500-%'",
    "the first row is gone": "DELETE FROM {}.projects WHERE name LIKE '0-%'",
    "the last row is gone": "DELETE FROM {}.projects WHERE name LIKE '2999-%'",
    "a row more": "INSERT INTO {}.projects SELECT gen_random_uuid(), 'more', '', now(), 'me'",
    "a row twice": "INSERT INTO {}.projects SELECT * FROM {}.projects WHERE name LIKE '2999-%'",
    "another value": "UPDATE {}.projects SET name = name || 'x' WHERE name LIKE '1500-%'",
    "another value of the last row": "UPDATE {}.projects SET name = 'x' WHERE name LIKE '2999-%'",
    "two values that changed places": (
        "UPDATE {}.projects SET name = CASE WHEN name LIKE '2998-%' THEN '2999' ELSE '2998' END "
        "WHERE name LIKE '2998-%' OR name LIKE '2999-%'"
    ),
    "no rows at all": "DELETE FROM {}.projects",
    "a row where there was none": "INSERT INTO {}.settings VALUES ('a', '{\"a\": 1}', null, now(), 'me')",
    "another data key": "UPDATE {}.keyring SET check_value = '\\x00'",
}  # fmt: skip


@pytest.mark.parametrize("statement", SPOILT.values(), ids=SPOILT)
def test_a_store_that_holds_anything_else_is_found(beside: Beside, statement: str) -> None:
    beside.execute(statement)
    with pytest.raises(ManifestMismatch):
        beside.compare(beside.facts)


def test_what_is_small_is_compared_row_by_row(
    beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "ALONE_BYTES", 1 << 40)
    with Hashers(Hashing(beside.conn.info.dsn, processes=2, rehearsing=False)) as few:
        few.expect(sum(chapter.size_bytes for chapter in beside.loaded.chapters))
        assert not few.started
        beside.hashers = few
        assert beside.compare(beside.facts).by == "digest"
