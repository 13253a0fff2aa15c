"""An undo puts back the state before the fence, however far a projector was; or says how far."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

from cli.platform import platform
from deploy.embedded.folder import open_state
from restore_service import events as ev
from restore_service.staging import before_name
from shared.errors import EventUnstorable, KeyringError, MessageUnreadable
from shared.instance import events as ie
from shared.instance.keyring import RootKey, rewrap
from shared.kafka import OutgoingMessage
from shared.messages.topics import INSTANCE_EVENTS, RESTORE_EVENTS
from shared.secretfiles import write_secret_file
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live


def undo(live: Live) -> Json:
    asked = live.services.restores.undo(target_instance_id=live.instance_id, reason="a test")
    return plain(live.services.restores.wait(asked["restore_id"]))


def restored(live: Live, document: Json) -> Json:
    assert document["state"] == "restored", document
    live.stack.wait_healthy()
    eventually(lambda: not live.position().fenced, "the fence closes")
    return document


@contextmanager
def paused_projector(live: Live) -> Iterator[None]:
    pid = live.stack.pids()["projector"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def project(name: str) -> ie.ProjectCreated:
    return ie.ProjectCreated(id=uuid4(), name=name)


def source_of(live: Live, undone: Json) -> Json | None:
    """Return what the log says that the state equals; no undecodable event is read on the way."""
    events = live.messages(INSTANCE_EVENTS, undone["fence_offset"])
    (event,) = [json.loads(e.data) for e in events if e.type == ie.Restored.TYPE]
    assert event["undo_of"] == undone["undo_of"]
    source: Json | None = event["source"]
    return source


def test_what_a_projector_that_was_behind_had_not_folded_is_put_back_too(own_live: Live) -> None:
    live = own_live
    backup, key = live.backup()
    with paused_projector(live):
        # Acknowledged, and not in the store when it is replaced.
        live.append(project("written while the projector stood still"))
        restore = live.restore(backup, key)
    restored(live, restore)
    assert "written while the projector stood still" not in live.projects()

    undone = restored(live, undo(live))

    assert "written while the projector stood still" in live.projects()
    kept = undone["checks"]["kept"]
    assert (kept["offset"], kept["left_out"]) == (restore["fence_offset"], None)
    assert source_of(live, undone) is None
    # The undo of it, and that one's undo, find it as it is.
    restored(live, undo(live))
    assert live.digest() == backup["digest"]
    restored(live, undo(live))
    assert "written while the projector stood still" in live.projects()


def poison(live: Live) -> int:
    kafka = live.kafka("platform")
    with kafka.producer() as producer:
        return producer.send_sync(
            kafka.topic(INSTANCE_EVENTS), OutgoingMessage(None, b"no event", ())
        )


def test_past_a_poisoned_log_it_puts_back_what_stood_before_the_event_and_says_so(
    own_live: Live,
) -> None:
    live = own_live
    backup, key = live.backup()
    live.add_project("before the poison")
    digest = live.digest()
    offset = poison(live)
    eventually(
        lambda: f"offset {offset}" in str(live.stack.process("projector")["reason"]),
        "the projector stands at the event",
    )
    live.append(project("behind the poison"))
    restore = restored(live, live.restore(backup, key))

    undone = restored(live, undo(live))

    assert live.digest() == digest
    kept = undone["checks"]["kept"]
    assert (kept["offset"], kept["fence_offset"]) == (offset, restore["fence_offset"])
    assert kept["left_out"]["code"] == MessageUnreadable.code
    assert f"offset {offset}" in kept["left_out"]["message"]
    source = source_of(live, undone)
    assert source is not None
    assert source["position"] == offset
    (told,) = live.events_about(RESTORE_EVENTS, ev.KEPT_SHORT, restore["restore_id"])
    assert told["kept"] == kept
    live.add_project("life goes on behind it")


def test_an_event_that_the_store_refuses_is_the_end_too_and_all_before_it_is_there(
    own_live: Live,
) -> None:
    live = own_live
    backup, key = live.backup()
    with live.admin() as conn:
        conn.execute("ALTER TABLE instance.projects ADD CONSTRAINT odd CHECK (name <> 'refused')")
    with paused_projector(live):
        for name in ("first", "second"):
            live.append(project(f"{name} before the refused one"))
        refused = live.append(project("refused"))
        live.append(project("behind the refused one"))
        restore = live.restore(backup, key)
    restored(live, restore)
    with live.admin() as conn:
        # An undo that is given up behind its preparation: the next one says the same.
        conn.execute("CREATE TABLE public.follows (project uuid)")
        conn.execute(
            "ALTER TABLE public.follows ADD FOREIGN KEY (project) REFERENCES instance.projects (id)"
        )
    failed = undo(live)
    assert failed["state"] == "failed"
    with live.admin() as conn:
        conn.execute("DROP TABLE public.follows")

    undone = restored(live, undo(live))

    kept = undone["checks"]["kept"]
    assert (kept["offset"], kept["left_out"]["code"]) == (refused.offset, EventUnstorable.code)
    assert {f"{name} before the refused one" for name in ("first", "second")} <= live.projects()
    assert not {"refused", "behind the refused one"} & live.projects()
    with live.admin() as conn:
        conn.execute("ALTER TABLE instance.projects DROP CONSTRAINT odd")


def test_a_keyring_that_this_root_key_does_not_open_is_not_put_back(own_live: Live) -> None:
    live = own_live
    backup, key = live.backup()
    live.add_project("before the root key was replaced")
    digest = live.digest()
    restore = restored(live, live.restore(backup, key))
    file = open_state(live.stack.state).key("root.key")
    old_text = file.read_bytes()
    old = RootKey.load(file)
    new_text = os.urandom(32).hex().encode("ascii")
    other = file.with_name("other.key")
    write_secret_file(other, new_text)
    with live.admin() as conn:
        rows = conn.execute("SELECT id, wrapped, check_value FROM instance.keyring").fetchall()
    names = ("id", "wrapped", "check_value")
    event = rewrap([dict(zip(names, row, strict=True)) for row in rows], old, RootKey.load(other))
    live.platform.writer.wait_until_stored(live.append(event), 20)
    other.unlink()

    def with_root_key(text: bytes) -> None:
        live.stack.down()
        file.unlink()
        write_secret_file(file, text)
        live.stack.up()

    with_root_key(new_text)
    before = live.state()
    refused = undo(live)
    assert (refused["state"], refused["error"]["code"]) == ("failed", KeyringError.code)
    assert live.state() == before
    assert before_name(restore["restore_id"]) in live.schemas()
    with_root_key(old_text)
    restored(live, undo(live))
    assert live.digest() == digest
    with platform(live.stack.state) as parts:
        assert UUID(str(parts.writer.append(project("sealed under it")).event_id))
