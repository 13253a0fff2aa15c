"""Commands over Kafka: the good ones reach their handler, the others are named, none is in the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from serving.command_topic import CommandTopic
from serving.requester import Requester
from shared.audit import AuditTrail
from shared.database import Pool, open_pool
from shared.errors import KeyAlreadyViewed, MessageUnreadable, PostgresUnavailable
from shared.eventstore import CommandConsumer, EventMeta, NewEvent
from shared.kafka import Kafka, OutgoingMessage, Producer
from shared.messages import CloudEvent, Issuer, IssuerRegistry, SigningKey, sign
from shared.messages.topics import BACKUP_COMMANDS, BACKUP_EVENTS, DEAD_LETTER_SUFFIX
from shared.settings import PostgresSettings
from tests.bad_commands import ISSUER, Commands, forged, unreadable
from tests.outbox import SERVICE, Outbox, in_thread
from tests.plugins.instance import eventually
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres

DEAD = BACKUP_COMMANDS + DEAD_LETTER_SUFFIX
CREATE = "com.secryn.test.create.v1"
REJECTED = "com.secryn.test.rejected.v1"


@dataclass
class Desk:
    """A command topic: the platform sends to it, backup_service takes from it."""

    place: Outbox
    service: Kafka
    platform: Producer
    pool: Pool
    key: SigningKey
    taken: list[tuple[str, Requester]] = field(default_factory=list)
    fails: list[BaseException] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.taken]

    @property
    def issuers(self) -> IssuerRegistry:
        issuer = Issuer(ISSUER, self.key.public, frozenset({"create"}), frozenset({"age1pq1x"}))
        return IssuerRegistry({ISSUER: issuer})

    # The platform

    @property
    def commands(self) -> Commands:
        return Commands(self.key, CREATE)

    def command(self, name: str, **extensions: str) -> CloudEvent:
        return self.commands.signed(name, **extensions)

    def send(self, message: CloudEvent | OutgoingMessage) -> int:
        record = message.to_kafka() if isinstance(message, CloudEvent) else message
        return self.platform.send_sync(self.service.topic(BACKUP_COMMANDS), record)

    # The service

    def store(self, data: bytes, requester: Requester) -> None:
        """Handle a command as a service does: one append, which is what it changes."""
        try:
            document = json.loads(data)
        except ValueError:
            raise MessageUnreadable("the command's body is not JSON") from None
        if self.fails:
            raise self.fails.pop(0)
        requester.require(document.get("needs", "create"))
        new = NewEvent("taken.v1", document)
        with self.pool.connection() as conn:
            meta = EventMeta(requester.name, requester.correlation_id)
            self.place.store.append(conn, f"taken-{uuid4()}", 0, [new], meta)
        self.taken.append((document["name"], requester))

    def new_consumer(self) -> CommandConsumer:
        topic = CommandTopic(
            topic=BACKUP_COMMANDS,
            answers=BACKUP_EVENTS,
            rejected=REJECTED,
            action="test.create",
            handlers={CREATE: self.store},
            pool=self.pool,
            store=self.place.store,
            audit=AuditTrail(self.place.store, SERVICE),
        )
        return CommandConsumer(
            self.service, BACKUP_COMMANDS, group_id=self.service.topic("backup.commands"),
            issuers=self.issuers, handle=topic.handle, refused=topic.refused,
        )  # fmt: skip

    @contextmanager
    def consumer(self) -> Iterator[None]:
        with in_thread(self.new_consumer().run):
            yield

    def wait_taken(self, name: str) -> None:
        eventually(lambda: name in self.names, f"the command {name} is taken")

    # What became of it

    def audited(self) -> list[dict[str, Any]]:
        return [event.data for event in self.place.stored() if event.stream == "audit"]

    def answers(self) -> list[dict[str, Any]]:
        return [event.data for event in self.place.stored() if event.type == REJECTED]

    def dead(self) -> list[tuple[str, str, int, bytes | None]]:
        """Return code, reason, offset and body of every dead letter."""
        found = []
        for record in self.place.on_topic(DEAD):
            headers = dict(record.headers)
            offset = int(headers["dead_letter_offset"])
            code, reason = headers["dead_letter_code"], headers["dead_letter_reason"]
            found.append((code.decode(), reason.decode(), offset, record.value))
        return found


@pytest.fixture
def desk(kafka: TestKafka, postgres: TestPostgres, tmp_path: Path) -> Iterator[Desk]:
    place = Outbox.create(kafka, postgres, tmp_path, (BACKUP_COMMANDS, DEAD))
    prefix = place.settings.topic_prefix
    kafka.grant(prefix)
    service = Kafka(kafka.settings("backup", prefix), SERVICE)
    pool = open_pool(PostgresSettings(dsn=place.dsn, pool_max=2), "test")
    try:
        with Kafka(kafka.settings("platform", prefix), "platform").producer() as platform:
            yield Desk(place, service, platform, pool, SigningKey.create(tmp_path / "ci.key"))
    finally:
        pool.close()


# Good commands


def test_a_signed_command_reaches_its_handler_with_its_issuer(desk: Desk) -> None:
    desk.send(desk.command("before anybody listens", correlationid="corr-9"))
    with desk.consumer():
        desk.wait_taken("before anybody listens")
        second = desk.command("second")
        desk.send(second)
        desk.wait_taken("second")
    (_, requester), (_, other) = desk.taken
    assert requester == Requester(
        "issuer:ci",
        frozenset({"create"}),
        f"kafka:{BACKUP_COMMANDS}",
        "corr-9",
        frozenset({"age1pq1x"}),
    )
    assert other.correlation_id == str(second.id)
    assert (desk.dead(), desk.audited(), desk.answers()) == ([], [], [])


def test_a_restarted_consumer_goes_on_behind_the_last_committed_command(desk: Desk) -> None:
    for name in ("a", "b"):
        desk.send(desk.command(name))
    with desk.consumer():
        desk.wait_taken("b")
    desk.send(desk.command("c"))
    with desk.consumer():
        desk.wait_taken("c")
    assert desk.names == ["a", "b", "c"]


class Death(BaseException):
    """The process is killed."""


def test_a_command_whose_consumer_died_comes_again(desk: Desk) -> None:
    for name in ("a", "b"):
        desk.send(desk.command(name))
    desk.fails = [Death()]
    with pytest.raises(Death):
        desk.new_consumer().run(threading.Event())
    assert desk.names == []
    with desk.consumer():
        desk.wait_taken("b")
    assert desk.names == ["a", "b"]


def test_a_command_comes_again_while_a_part_is_away(desk: Desk) -> None:
    desk.fails = [PostgresUnavailable("away"), PostgresUnavailable("still away")]
    for name in ("a", "b"):
        desk.send(desk.command(name))
    with desk.consumer():
        desk.wait_taken("b")
    assert desk.names == ["a", "b"]
    assert (desk.dead(), desk.audited(), desk.answers()) == ([], [], [])


# Refused commands


def test_a_refused_command_is_answered_with_a_code(desk: Desk) -> None:
    needs = {"name": "x", "needs": "restore\0"}
    may_not = CloudEvent(CREATE, "/ci", json.dumps(needs).encode())
    viewed = desk.command("y")
    with desk.consumer():
        offset = desk.send(sign(may_not, desk.key, ISSUER))
        eventually(desk.answers, "the refusal is answered")
        desk.fails = [KeyAlreadyViewed("bob viewed it")]
        desk.send(viewed)
        eventually(lambda: len(desk.answers()) == 2, "the second refusal is answered")
        desk.send(desk.command("after"))
        desk.wait_taken("after")
    assert desk.names == ["after"]
    assert desk.dead() == []
    denied, conflict = desk.answers()
    assert denied == {
        "command_id": str(may_not.id),
        "code": "access.denied",
        "message": "the permission restore\ufffd is missing",
        "hint": "Ask an administrator for the named permission.",
    }
    assert (conflict["command_id"], conflict["code"]) == (str(viewed.id), "key.already_viewed")
    (answer, _) = [event for event in desk.place.stored() if event.type == REJECTED]
    assert (answer.topic, answer.causation_id) == (BACKUP_EVENTS, str(may_not.id))
    entry, _ = desk.audited()
    assert (entry["actor"], entry["status"]) == ({"user": {"name": "issuer:ci"}}, "Failure")
    assert entry["status_code"] == "access.denied"
    assert entry["unmapped"]["details"] == {"command_offset": offset}


def test_a_forged_command_changes_nothing_and_is_named(desk: Desk) -> None:
    bad = forged(desk.commands)
    offsets = between_good_ones(desk, bad)
    for (_, reason, offset, body), name in zip(desk.dead(), bad, strict=True):
        assert reason == "the message is not signed by a registered issuer"
        assert (offset, body) == (offsets[name], bad[name].data)
    changed_nothing(desk, offsets, "access.signature_invalid")


def test_what_is_no_command_is_put_aside_with_the_reason(desk: Desk) -> None:
    bad = unreadable(desk.commands)
    offsets = between_good_ones(desk, {name: message for name, (message, _) in bad.items()})
    for (_, reason, offset, body), name in zip(desk.dead(), bad, strict=True):
        message, why = bad[name]
        assert why in reason, name
        # What is too large with a reason beside it stands on the command topic only.
        assert body == (b"" if "too large" in name else message.value or b"")
        assert offset == offsets[name]
    changed_nothing(desk, offsets, "message.unreadable")


def between_good_ones(
    desk: Desk, bad: Mapping[str, CloudEvent | OutgoingMessage]
) -> Mapping[str, int]:
    """Send each bad one between two good commands, all of which are taken; return the offsets."""
    offsets = dict[str, int]()
    desk.send(desk.command("first"))
    for name, wrong in bad.items():
        offsets[name] = desk.send(wrong)
        desk.send(desk.command(f"after {name}"))
    with desk.consumer():
        for name in bad:
            desk.wait_taken(f"after {name}")
    assert desk.names == ["first"] + [f"after {name}" for name in bad]
    return offsets


def changed_nothing(desk: Desk, offsets: Mapping[str, int], code: str) -> None:
    """Check that each one is a dead letter and audited, and that nothing else was stored."""
    assert {found for found, _, _, _ in desk.dead()} == {code}
    entries = desk.audited()
    assert [e["unmapped"]["details"]["command_offset"] for e in entries] == list(offsets.values())
    assert {(e["status"], e["status_code"]) for e in entries} == {("Failure", code)}
    assert desk.answers() == []
    assert len(desk.place.stored()) == 1 + 2 * len(offsets)
