"""The audit trail: one chain a service from its first entry, in the store and on the topic."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from shared.audit import GENESIS, AuditEntry, AuditTrail, ChainReport, entry_hash, verify_chain
from shared.database import Lock
from shared.errors import ConcurrencyConflict
from shared.eventstore import EventStore, NewEvent, Relay
from shared.messages.topics import AUDIT
from tests.outbox import META, SERVICE, Outbox, in_thread, new_store
from tests.plugins.instance import eventually
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres


@pytest.fixture
def dsn(postgres: TestPostgres) -> str:
    return postgres.fresh_database()


@pytest.fixture
def store(dsn: str) -> EventStore:
    return new_store(dsn)


@pytest.fixture
def trail(store: EventStore) -> AuditTrail:
    return AuditTrail(store, SERVICE)


def entry(resource: str = "b-1", **more: Any) -> AuditEntry:
    return AuditEntry("backup.create", "success", "alice", "backup", resource, "http:::1", **more)


def entries(store: EventStore, dsn: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn) as conn:
        return [event.data for event in store.read_stream(conn, "audit")]


def test_an_entry_says_who_did_what_to_what_from_where(
    store: EventStore, trail: AuditTrail, dsn: str
) -> None:
    told = AuditEntry(
        "key.view", "failure", "alice", "key", "b-1", "http:192.0.2.1",
        code="access.denied", message="the permission view_key is missing",
        log_offset=42, details={"backups": ["b-1"]},
    )  # fmt: skip
    with psycopg.connect(dsn) as conn:
        trail.record(conn, told, "corr-1")
        (event,) = store.read_stream(conn, "audit")
    assert (event.topic, event.actor, event.correlation_id) == (AUDIT, "alice", "corr-1")
    data = dict(event.data)
    assert data.pop("hash") == entry_hash(data)
    assert data.pop("time").endswith("+00:00")
    assert data == {
        "seq": 1,
        "prev_hash": GENESIS,
        "class_uid": 6003,
        "service": SERVICE,
        "actor": {"user": {"name": "alice"}},
        "api": {"operation": "key.view"},
        "resources": [{"type": "key", "uid": "b-1"}],
        "src_endpoint": {"name": "http:192.0.2.1"},
        "status": "Failure",
        "status_code": "access.denied",
        "status_detail": "the permission view_key is missing",
        "metadata": {"correlation_uid": "corr-1"},
        "unmapped": {"log_offset": 42, "details": {"backups": ["b-1"]}},
    }


def test_entries_form_one_chain_from_the_first(
    store: EventStore, trail: AuditTrail, dsn: str
) -> None:
    for number in range(5):
        with psycopg.connect(dsn) as conn:
            trail.record(conn, entry(f"b-{number}"), "corr")
            trail.record(conn, entry(f"b-{number}", log_offset=number), "corr")
    found = entries(store, dsn)
    assert [one["seq"] for one in found] == list(range(1, 11))
    assert [one["prev_hash"] for one in found] == [GENESIS, *[one["hash"] for one in found[:-1]]]
    assert verify_chain(found) == ChainReport(10, found[-1]["hash"])


def test_many_who_record_at_once_make_one_chain(
    store: EventStore, trail: AuditTrail, dsn: str
) -> None:
    """Ten threads; other events are appended between, and some transactions are given up."""
    together = threading.Barrier(10)

    def act(number: int) -> int:
        with psycopg.connect(dsn) as conn:
            together.wait()
            for step in range(8):
                trail.record(conn, entry(f"{number}-{step}"), "corr")
                store.append(conn, f"backup-{number}", step, [NewEvent("x.v1", {})], META)
                conn.commit()
                trail.record(conn, entry("given up"), "corr")
                conn.rollback()
        return number

    with ThreadPoolExecutor(10) as threads:
        assert len(list(threads.map(act, range(10)))) == 10
    found = entries(store, dsn)
    assert verify_chain(found) == ChainReport(80, found[-1]["hash"])
    told = {one["resources"][0]["uid"] for one in found}
    assert told == {f"{number}-{step}" for number in range(10) for step in range(8)}


def test_an_entry_is_lost_with_what_it_tells_of(
    store: EventStore, trail: AuditTrail, dsn: str
) -> None:
    with psycopg.connect(dsn) as conn:
        store.append(conn, "s", 0, [NewEvent("first.v1", {})], META)
    with psycopg.connect(dsn) as conn, pytest.raises(ConcurrencyConflict), conn.transaction():
        trail.record(conn, entry(), "corr")
        store.append(conn, "s", 0, [NewEvent("second.v1", {})], META)
    assert entries(store, dsn) == []
    with psycopg.connect(dsn) as conn:
        trail.record(conn, entry("kept"), "corr")
    assert [one["seq"] for one in entries(store, dsn)] == [1]


@pytest.mark.parametrize(
    "details",
    [
        {"text": 'ä\U0001f512"\\\u2028 \t', "none": None, "yes": True, "list": [1, [2], {}]},
        {"size_bytes": 2**63, "negative": -(2**70)},
        {
            "seconds": 0.1,
            "rate": 1.0,
            "tiny": 1e-9,
            "huge": 1e22,
            "minus": -0.0,
            "none": float("nan"),
        },
        {"b": 1, "a": {"z": 1, "y": 2}, "aa": 1, "ä": 1},
        {"text\0": "a\0b", "deep": [{"x": "\ud800"}]},
        {1: "a number as a name", "tuple": (1, 2)},
    ],
    ids=["texts", "big numbers", "floats", "order of names", "not storable", "not JSON's"],
)
def test_what_postgresql_makes_of_an_entry_still_has_its_hash(
    store: EventStore, trail: AuditTrail, dsn: str, details: dict[str, Any]
) -> None:
    """jsonb writes numbers and orders names its own way: the chain must not break by itself."""
    with psycopg.connect(dsn) as conn:
        trail.record(conn, entry(details=details), "corr")
        trail.record(conn, entry(), "corr")
    assert verify_chain(entries(store, dsn)).intact


def test_text_of_a_stranger_does_not_keep_an_entry_out(
    store: EventStore, trail: AuditTrail, dsn: str
) -> None:
    strange = "a\0b\ud800c"
    told = AuditEntry("x", "failure", strange, "command", strange, strange, message=strange)
    with psycopg.connect(dsn) as conn:
        trail.record(conn, told, strange)
    (found,) = entries(store, dsn)
    assert found["actor"]["user"]["name"] == "a\ufffdb\ufffdc"
    assert verify_chain([found]).intact


# On the topic


@pytest.fixture
def place(kafka: TestKafka, postgres: TestPostgres, tmp_path: Path) -> Outbox:
    return Outbox.create(kafka, postgres, tmp_path, (AUDIT,))


def on_topic(place: Outbox, service: str) -> list[dict[str, Any]]:
    """Return one service's entries as whoever holds the topic's content reads them."""
    found = [json.loads(record.value or b"") for record in place.on_topic(AUDIT)]
    return [one for one in found if one["service"] == service]


def test_the_topic_has_the_chains_of_both_services_whole(place: Outbox) -> None:
    """Each service relays its own; their entries lie between each other on the topic."""
    other = EventStore("restore", Lock.RESTORE_APPEND)
    with place.connection() as conn:
        other.migrate(conn)
    trails = AuditTrail(place.store, SERVICE), AuditTrail(other, "restore_service")
    others_relay = Relay(
        other, place.kafka, place.dsn, transactional_id=place.kafka.topic("restore.relay"),
        lock=Lock.RESTORE_RELAY, key=place.key, issuer="restore_service",
    )  # fmt: skip

    def both_relayed() -> bool:
        with place.connection() as conn:
            return all(
                store.relayed(conn) == store.read_all(conn, 0, 100)[-1].position
                for store in (place.store, other)
            )

    with place.relay(), in_thread(others_relay.run):
        for number in range(12):
            with place.connection() as conn:
                for trail in trails:
                    trail.record(conn, entry(f"ä-{number}", details={"n": number / 7}), "corr")
        eventually(both_relayed, "both are relayed")
    for service in (SERVICE, "restore_service"):
        found = on_topic(place, service)
        assert verify_chain(found) == ChainReport(12, found[-1]["hash"])

    whole = on_topic(place, SERVICE)
    without, changed, moved = whole[:5] + whole[6:], [dict(one) for one in whole], list(whole)
    changed[5]["status"] = "Failure"
    moved[5], moved[6] = moved[6], moved[5]
    for altered in (without, changed, moved, [*whole[:5], whole[4], *whole[5:]]):
        report = verify_chain(altered)
        assert (report.entries, report.bad_seq, report.intact) == (5, 6, False)
        assert "entry 6 " in (report.reason or "")
        assert report.head == whole[4]["hash"]
    assert verify_chain(whole[1:]).bad_seq == 1
    # An entry that is changed and hashed anew does not fit the next one.
    changed[5]["hash"] = entry_hash(changed[5])
    assert verify_chain(changed).bad_seq == 7
