"""`instance skip-event`: exactly the one event that cannot be decoded, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from backup_service import events as ev
from backup_service.commands import SkipEvent, parse_command
from backup_service.handlers.skip_event import skip_event
from shared.errors import (
    AccessError,
    LogLost,
    MessageUnreadable,
    NothingToSkip,
    RestoreInProgress,
    TargetMismatch,
    UsageError,
)
from shared.kafka import OutgoingMessage
from tests.backing import Backing
from tests.plugins.instance import eventually
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres

POISON = OutgoingMessage(None, b"no event", ())


@pytest.fixture
def backing(postgres: TestPostgres, kafka: TestKafka, tmp_path: Path) -> Iterator[Backing]:
    made = Backing.create(postgres, kafka, tmp_path)
    with made.stack:
        with made.projector():
            made.writer.wait_until_stored(made.add("before"), 20)
        yield made


def poison(backing: Backing) -> int:
    with backing.context.kafka.producer() as producer:
        return producer.send_sync(backing.topic, POISON)


def asked(backing: Backing, offset: int, **named: Any) -> SkipEvent:
    document = {"instance_id": str(backing.instance_id), "offset": offset}
    return parse_command(SkipEvent, document | named)


def skip(backing: Backing, offset: int, **named: Any) -> dict[str, Any]:
    return skip_event(backing.context, asked(backing, offset, **named), backing.admin)


def test_the_projector_passes_it_and_stops_at_the_next(backing: Backing) -> None:
    first = poison(backing)
    backing.add("between")
    second = poison(backing)
    last = backing.add("after")
    with backing.projector() as projector:
        for offset in (first, second):

            def stopped_at(offset: int = offset) -> bool:
                stopped = projector.now.stopped
                return stopped is not None and stopped.offset == offset

            eventually(stopped_at, f"it stops at {offset}")
            stopped = projector.now.stopped
            assert stopped is not None
            assert stopped.code == MessageUnreadable.code
            assert f"secryn instance skip-event --offset {offset} " in stopped.hint
            passed = skip(backing, offset)
            assert (passed["offset"], passed["size_bytes"]) == (offset, len(POISON.value or b""))
        backing.writer.wait_until_stored(last, 20)
    assert backing.projects() == {"before", "between", "after"}
    assert backing.position().skipped["unreadable"] == 2
    events = backing.events(ev.EVENT_SKIPPED)
    assert [event.data["offset"] for event in events] == [first, second]
    assert len(backing.audited("instance.skip_event")) == 2


def test_no_other_offset_is_passed(backing: Backing) -> None:
    good = backing.add("good")
    bad = poison(backing)
    # The projector has reached neither: what can be decoded is its to apply.
    for offset, reason in (
        (good.offset, "can be decoded"),
        (bad, "the store is at offset"),
        (bad + 1, "the store is at offset"),
        (0, "the store is at offset"),
    ):
        before = backing.position()
        with pytest.raises(NothingToSkip, match=reason):
            skip(backing, offset)
        assert backing.position() == before
    with backing.projector() as projector:
        projector.wait_stopped()
        for offset in (good.offset, bad + 1):
            with pytest.raises(NothingToSkip):
                skip(backing, offset)
        skip(backing, bad)
        with pytest.raises(NothingToSkip, match="the store is at offset"):
            skip(backing, bad)
        with pytest.raises(NothingToSkip, match="the log ends"):
            skip(backing, bad + 1)
    assert backing.projects() == {"before", "good"}


def test_a_command_that_comes_twice_skips_once(backing: Backing) -> None:
    first, second = poison(backing), poison(backing)
    with backing.projector() as projector:
        projector.wait_stopped()
    command = asked(backing, first)
    passed = skip_event(backing.context, command, backing.admin)
    assert skip_event(backing.context, command, backing.admin) == passed
    assert backing.position().position == second
    assert len(backing.events(ev.EVENT_SKIPPED)) == 1


def test_behind_a_fence_and_on_a_lost_log_nothing_is_skipped(backing: Backing) -> None:
    offset = poison(backing)
    with backing.projector() as projector:
        projector.wait_stopped()
    backing.execute(
        "UPDATE instance.log_position SET fence_no = 1, fence_restore_id = %s, fence_offset = 1",
        uuid4(),
    )
    with pytest.raises(RestoreInProgress):
        skip(backing, offset)
    backing.execute(
        "UPDATE instance.log_position SET fence_no = NULL, fence_restore_id = NULL, "
        "fence_offset = NULL"
    )
    backing.lose_log()
    before = backing.position()
    with pytest.raises(LogLost):
        skip(backing, offset)
    assert backing.position() == before


def test_it_takes_the_right_instance_and_the_right_to_restore(backing: Backing) -> None:
    offset = poison(backing)
    with backing.projector() as projector:
        projector.wait_stopped()
    with pytest.raises(TargetMismatch):
        skip(backing, offset, instance_id=str(uuid4()))
    other = replace(backing.admin, permissions=backing.admin.permissions - {"restore"})
    with pytest.raises(AccessError):
        skip_event(backing.context, asked(backing, offset), other)
    right = {"instance_id": str(backing.instance_id), "offset": offset}
    for wrong in ({"offset": -1}, {"offset": "4"}, {"offset": True}, {"until": 9}):
        with pytest.raises(UsageError):
            parse_command(SkipEvent, right | wrong)
    assert backing.events(ev.EVENT_SKIPPED) == []
