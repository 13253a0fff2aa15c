"""An event that cannot be decoded stops the projector and nothing else, and there are ways out."""

from __future__ import annotations

from backup_service.events import EVENT_SKIPPED
from shared.errors import NothingToSkip, TargetMismatch
from shared.kafka import OutgoingMessage
from shared.messages.topics import BACKUP_EVENTS, INSTANCE_EVENTS
from tests.disasters import follow
from tests.plugins.instance import eventually
from tests.plugins.live import Live


def poison(live: Live) -> int:
    """Append what is no event; return its offset when the status names it."""
    kafka = live.kafka("platform")
    with kafka.producer() as producer:
        offset = producer.send_sync(
            kafka.topic(INSTANCE_EVENTS), OutgoingMessage(None, b"no event", ())
        )
    eventually(lambda: f"offset {offset}" in reason(live), "the status names the offset")
    assert not live.stack.status()["healthy"]
    return offset


def reason(live: Live) -> str:
    return str(live.stack.process("projector")["reason"])


def test_the_one_event_is_skipped_by_whoever_names_it(own_live: Live) -> None:
    live = own_live
    offset = poison(live)
    named = ("instance", "skip-event", "--offset", str(offset), "--instance")
    assert f"secryn {' '.join(named)} " in reason(live)
    assert live.stack.refusal(*named, str(offset), "--yes")["code"] == TargetMismatch.code
    # Nobody types the id: nothing happens.
    assert live.stack.secryn(*named, live.instance_id, check=False).returncode
    other = ("instance", "skip-event", "--offset", str(offset + 1), "--instance", live.instance_id)
    assert live.stack.refusal(*other, "--yes")["code"] == NothingToSkip.code
    assert f"offset {offset}" in reason(live)

    assert follow(live.stack, "skip-event", OFFSET=offset)["position"] == offset + 1
    live.stack.wait_healthy()
    live.add_project("behind the skipped one")
    assert "behind the skipped one" in live.projects()
    (event,) = live.events_about(BACKUP_EVENTS, EVENT_SKIPPED, offset)
    assert (event["offset"], event["reason"]) == (offset, "by hand")


def test_a_poisoned_log_is_named_in_the_status_and_a_restore_passes_it(own_live: Live) -> None:
    live = own_live
    live.add_project("before the poison")
    backup, key = live.backup()
    offset = poison(live)
    asked = live.services.backups.create("as it stands", at_position=True)
    behind = live.services.backups.wait(asked["backup_id"])
    assert (behind["state"], behind["behind"], behind["offset"]) == ("created", True, offset)

    assert live.restore(backup, key)["state"] == "restored"

    live.stack.wait_healthy()
    eventually(lambda: not live.position().fenced, "the fence closes")
    live.add_project("after the poison")
    assert {"before the poison", "after the poison"} <= live.projects()
