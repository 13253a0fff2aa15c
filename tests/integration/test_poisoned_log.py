"""An event that cannot be decoded stops the projector and nothing else; a restore is a way out."""

from __future__ import annotations

from shared.kafka import OutgoingMessage
from shared.messages.topics import INSTANCE_EVENTS
from tests.plugins.instance import eventually
from tests.plugins.live import Live


def test_a_poisoned_log_is_named_in_the_status_and_a_restore_passes_it(live: Live) -> None:
    live.add_project("before the poison")
    backup, key = live.backup()
    kafka = live.kafka("platform")
    with kafka.producer() as producer:
        offset = producer.send_sync(
            kafka.topic(INSTANCE_EVENTS), OutgoingMessage(None, b"no event", ())
        )

    def reason() -> str:
        return str(live.stack.process("projector")["reason"])

    eventually(lambda: f"offset {offset}" in reason(), "the status names the offset")
    assert not live.stack.status()["healthy"]
    asked = live.services.backups.create("as it stands", at_position=True)
    behind = live.services.backups.wait(asked["backup_id"])
    assert (behind["state"], behind["behind"], behind["offset"]) == ("created", True, offset)

    assert live.restore(backup, key)["state"] == "restored"

    live.stack.wait_healthy()
    eventually(lambda: not live.position().fenced, "the fence closes")
    live.add_project("after the poison")
    assert {"before the poison", "after the poison"} <= live.projects()
