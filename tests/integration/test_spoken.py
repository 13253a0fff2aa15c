"""What a running stack says over Kafka is what its AsyncAPI documents say that it says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from backup_service import events as backup_events
from backup_service.commands import HOLD_BACKUP, RELEASE_BACKUP
from restore_service import events as restore_events
from shared.instance.events import Restored
from shared.messages.topics import BACKUP_COMMANDS, BACKUP_EVENTS, RESTORE_EVENTS, TOPICS
from tests.plugins.live import Json, Live
from tests.speaking import Book


@pytest.fixture(scope="module")
def documents(live: Live) -> list[Json]:
    services = (live.services.backups, live.services.restores)
    return [each.connection.call("GET", "/api/v1/asyncapi.json") for each in services]


@pytest.fixture(scope="module")
def book(documents: list[Json]) -> Book:
    return Book.of(*documents)


def said(live: Live, book: Book, topic: str, since: datetime) -> tuple[set[str], list[str]]:
    """Return the types of the messages on a topic, and what of them is not as documented.

    From ``since`` on: before it other modules may have said what is refused, to see that it is.
    """
    kinds, faults = set[str](), list[str]()
    kafka = live.kafka()
    name = kafka.topic(topic)
    for event in live.messages(topic):
        # That one a service says when it starts.
        if event.time < since and event.type != restore_events.RECIPIENT_PUBLISHED:
            continue
        headers = {header: raw.decode() for header, raw in event.to_kafka().headers}
        kinds.add(event.type)
        faults += book.faults(name, headers, json.loads(event.data))
    return kinds, faults


def happen(live: Live) -> None:
    """Let something of each kind happen."""
    backup, key = live.backup()
    backup_id = backup["backup_id"]
    live.add_project(f"unwanted {uuid4()}")
    named = {"backup_id": backup_id, "reason": "a test"}
    for kind in (HOLD_BACKUP, RELEASE_BACKUP, RELEASE_BACKUP):
        live.command(BACKUP_COMMANDS, kind, named | {"command_id": str(uuid4())})
    live.services.backups.verify(backup_id)
    live.stack.secryn("storage", "check", check=False)
    live.stack.secryn("token", "create", f"t-{uuid4().hex[:8]}", "--permission", "read")
    restored = live.restore(backup, key)
    assert restored["state"] == "restored"
    live.stack.secryn("restore", "undo", "--instance", live.instance_id, "--yes")
    live.services.restores.connection.call("GET", "/api/v1/recipient")
    live.events_about(BACKUP_EVENTS, backup_events.RELEASED, backup_id)


def test_every_message_of_a_running_stack_is_as_its_document_says(live: Live, book: Book) -> None:
    began = datetime.now(UTC)
    happen(live)
    kinds = set[str]()
    for topic in TOPICS:
        if topic.endswith(".dead"):
            # What stands there had no form to begin with.
            continue
        found, faults = said(live, book, topic, began)
        assert not faults, faults[:20]
        kinds |= found
    assert kinds >= {
        backup_events.CREATED, backup_events.KEY_VIEWED, backup_events.HELD,
        backup_events.RELEASED, backup_events.REJECTED, backup_events.VERIFIED,
        backup_events.STORAGE_CHECKED, backup_events.RESTORE_NOTED, HOLD_BACKUP,
        restore_events.REQUESTED, restore_events.CUT_OVER, restore_events.COMPLETED,
        restore_events.UNDONE, restore_events.RECIPIENT_PUBLISHED, Restored.TYPE,
    }  # fmt: skip


def test_another_body_or_header_than_documented_is_found(live: Live, book: Book) -> None:
    topic = live.kafka().topic(RESTORE_EVENTS)
    event = live.messages(RESTORE_EVENTS)[0]
    headers = {header: raw.decode() for header, raw in event.to_kafka().headers}
    body = json.loads(event.data)
    assert book.faults(topic, headers, body) == []
    assert book.faults(topic, headers, body | {"more": 1})
    assert book.faults(topic, headers, dict(list(body.items())[1:]))
    unsigned = {name: text for name, text in headers.items() if name != "ce_signature"}
    assert book.faults(topic, unsigned, body)
    assert book.faults(live.kafka().topic(BACKUP_EVENTS), headers, body)


def test_the_documents_name_the_topics_of_this_place(live: Live, documents: list[Json]) -> None:
    known = {channel["address"] for each in documents for channel in each["channels"].values()}
    assert known == {live.kafka().topic(topic) for topic in TOPICS}
