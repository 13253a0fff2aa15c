"""The fold on a real store against the model: what comes back from PostgreSQL is what it has to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from random import Random
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup_service.projector.faults import StoreMoved
from backup_service.projector.store import Advance, Store
from shared.database import Connection
from shared.instance.digest import digest_schema
from shared.instance.events import (
    CertificateCreated,
    CertificateRevoked,
    InstanceEvent,
    ProjectCreated,
    VaultCreated,
    decode,
    encode,
)
from shared.instance.fold import LoggedEvent
from shared.kafka import LogIdentity
from tests.model import Model, differences, read_tables
from tests.plugins.hypothesis_profile import scaled
from tests.plugins.postgres import TestPostgres
from tests.strategies import LOG, batches, cuts, histories

ZONES = ("UTC", "America/St_Johns", "Asia/Tokyo")


@pytest.fixture(scope="module")
def conn(postgres: TestPostgres) -> Iterator[Connection]:
    """A connection to an instance that has read nothing of its log."""
    with psycopg.connect(postgres.fresh_database(), autocommit=True) as conn:
        Store.open(conn, LogIdentity(*LOG))
        yield conn


@contextmanager
def empty_store(conn: Connection, zone: str = "UTC") -> Iterator[Store]:
    """A store whose every change is undone at the end, on a server that believes to be in ``zone``."""
    with conn.transaction(force_rollback=True):
        conn.execute("SELECT set_config('TimeZone', %s, true)", (zone,))
        yield Store.open(conn, LogIdentity(*LOG))


def deliver(conn: Connection, store: Store, batch: list[LoggedEvent]) -> None:
    """Hand over a batch as the projector does after it was read from the log."""
    decoded = [logged._replace(event=decode(logged.type, encode(logged.event))) for logged in batch]
    last = batch[-1]
    store.apply(decoded, Advance(last.offset + 1, (last.offset, last.event_id)))
    # What a commit would find: names and references are looked at then.
    conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
    conn.execute("SET CONSTRAINTS ALL DEFERRED")


@settings(max_examples=scaled(100))
@given(histories(), cuts(), st.sampled_from(ZONES))
def test_rows_are_those_of_the_model_however_the_log_is_cut(
    conn: Connection, history: list[LoggedEvent], sizes: list[int], zone: str
) -> None:
    model = Model(LOG)
    model.apply_all(history)
    with empty_store(conn, zone) as store:
        for batch in batches(history, sizes):
            deliver(conn, store, batch)
        assert differences(model.tables(), read_tables(conn)) == []
        assert store.look().skipped == model.skipped
        assert store.look().position == history[-1].offset + 1


@settings(max_examples=scaled(30))
@given(histories(), cuts(), cuts(), st.randoms(use_true_random=False))
def test_a_batch_that_comes_again_changes_nothing(
    conn: Connection, history: list[LoggedEvent], some: list[int], others: list[int], rng: Random
) -> None:
    with empty_store(conn) as store:
        for batch in batches(history, some):
            deliver(conn, store, batch)
        once = digest_schema(conn).digest
    with empty_store(conn) as store:
        for batch in batches(history, others):
            late = Store(conn, store.position)
            deliver(conn, store, batch)
            if rng.random() < 0.5:
                # Another session, or this one after a lost answer: it believes to be behind.
                with pytest.raises(StoreMoved):
                    deliver(conn, late, batch)
        assert digest_schema(conn).digest == once


def logged(offset: int, event: InstanceEvent) -> LoggedEvent:
    return LoggedEvent(offset, uuid4(), event.TYPE, datetime.now(UTC), "tester", 1, event)


@pytest.mark.parametrize("zone", ZONES)
def test_a_certificate_without_an_end_is_revoked_wherever_the_server_is(
    conn: Connection, zone: str
) -> None:
    """RFC 5280, section 4.1.2.5: 99991231235959Z, which in Tokyo lies in the year 10000."""
    project, vault, certificate = uuid4(), uuid4(), uuid4()
    created = CertificateCreated(
        id=certificate,
        vault_id=vault,
        name="root",
        der=b"",
        subject="",
        issuer="",
        serial="1",
        not_before=datetime(1, 1, 1, tzinfo=UTC),
        not_after=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    )
    history = [
        logged(0, ProjectCreated(id=project, name="p")),
        logged(1, VaultCreated(id=vault, project_id=project, name="v")),
        logged(2, created),
        logged(3, CertificateRevoked(id=certificate, version=1)),
    ]
    model = Model(LOG)
    model.apply_all(history)
    with empty_store(conn, zone) as store:
        deliver(conn, store, history[:3])
        deliver(conn, store, history[3:])
        assert differences(model.tables(), read_tables(conn)) == []
    assert model.rejected == 0
