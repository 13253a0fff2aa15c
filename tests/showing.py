"""Backups, restores and rehearsals in every state, for the pages that show them.

    ids = show_everything(house)              # by name: "waiting", "purged", "approved", ...

They are their events alone: nothing was backed up.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from backup_service import events as bev
from backup_service.context import BackupContext, object_name
from restore_service import events as rev
from restore_service.rehearsal import events as hev
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS
from tests.callers import House
from tests.keeping import KEY, append

WHO: Final = EventMeta("user:<i>anna</i>", "corr-7")
MARKUP: Final = 'before <script>alert("x")</script> & <b>4.2</b>'
CONTENT: Final = b"an object"


FAULT: Final = {"code": "storage.no_space", "message": "no space is left", "hint": "Make room."}


def show_everything(house: House) -> dict[str, str]:
    """Fill both services; return the ids by what is to be seen."""
    return _backups(house.backup) | _restores(house) | _rehearsals(house)


def _begun() -> NewEvent:
    return NewEvent(bev.STARTED, {})


def _viewed() -> NewEvent:
    return NewEvent(bev.KEY_VIEWED, {})


def _purge() -> NewEvent:
    told = {"why": "retention", "rule": "keep_last", "reason": MARKUP}
    return NewEvent(bev.PURGE_STARTED, told)


def stored_backup(context: BackupContext, *more: NewEvent) -> str:
    """Make up a backup whose key was viewed, and whose file is there; ``more`` happened to it."""
    backup_id = _made(context, _begun(), _created(context), _viewed(), *more)
    _store(context, backup_id)
    return backup_id


def prove(context: BackupContext, backup_id: str, *more: NewEvent) -> None:
    """Let a backup that was asked for be made, and its key be viewed; ``more`` happened to it."""
    append(context, backup_id, _begun(), _created(context), _viewed(), *more)


def waiting_backup(context: BackupContext) -> str:
    """Make up a backup whose key waits, and whose file is there."""
    backup_id = _made(context, _begun(), _created(context))
    with context.pool.connection() as conn:
        wait = context.keys.wait_of(UUID(backup_id), context.clock.now())
        context.keys.deposit(conn, KEY, wait)
    _store(context, backup_id)
    return backup_id


def _store(context: BackupContext, backup_id: str) -> None:
    writer = context.objects.create(object_name(backup_id))
    writer.write(CONTENT)
    writer.commit()


def _made(context: BackupContext, *events: NewEvent, recipients: tuple[str, ...] = ()) -> str:
    backup_id = str(uuid4())
    asked = {"reason": MARKUP, "recipient_fingerprints": list(recipients), "at_position": False}
    with context.pool.connection() as conn:
        first = NewEvent(bev.REQUESTED, asked)
        context.history.append(conn, backup_id, 0, [first, *events], WHO)
    return backup_id


def _backups(context: BackupContext) -> dict[str, str]:
    damaged = {"intact": False, "code": "archive.altered", "message": "it has other content"}
    hold = {"hold_id": str(uuid4()), "holder": "legal", "reason": MARKUP, "until": None}
    found = {
        "asked": _made(context),
        "running": _made(context, _begun()),
        "waiting": waiting_backup(context),
        "viewed": stored_backup(context),
        "damaged": stored_backup(
            context, NewEvent(bev.VERIFIED, {"outcome": damaged}), NewEvent(bev.HELD, hold)
        ),
        "own": _made(context, _begun(), _created(context), recipients=("SHA256:own",)),
        "failed": _made(context, _begun(), NewEvent(bev.FAILED, {"error": FAULT})),
        "cancelled": _made(context, NewEvent(bev.CANCELLED, {"error": FAULT | {"hint": None}})),
        "purging": stored_backup(context, _purge()),
        "purged": stored_backup(context, _purge(), NewEvent(bev.PURGED, {})),
    }
    context.progress.begin(found["running"])
    _store(context, found["own"])
    return found


def _created(context: BackupContext) -> NewEvent:
    now = context.clock.now()
    facts: dict[str, Any] = {
        "offset": 1234, "epoch": 1, "behind": False, "size_bytes": 9, "duration_s": 1.5,
        "location": "file:/backups/here", "sha256": "ab" * 32, "digest": "cd" * 32,
        "signer": "SHA256:signer", "environment": "default", "cluster_id": "c", "topic_id": "t",
        "instance_id": str(context.settings.place.instance_id), "proven_at": now.isoformat(),
        "tables": {"users": {"rows": 3, "digest": "x"}}, "key_fingerprint": "SHA256:key",
        "key_expires_at": (now + timedelta(days=7)).isoformat(),
    }  # fmt: skip
    return NewEvent(bev.CREATED, facts)


def _restores(house: House) -> dict[str, str]:
    # What may be approved is by the time that it is.
    now = datetime.now(UTC)
    later = (now + timedelta(days=1)).isoformat()
    waits = {"expires_at": later, "approvers": ["user:berta", "user:carla"]}
    outcome = {
        "epoch": 2, "kept_as": None,
        "proof": {"digest": "ef" * 32, "tables": {"users": 3}},
    }  # fmt: skip
    checks = {
        "backup_id": str(uuid4()), "created_at": now.isoformat(), "offset": 1234,
        "source_environment": "<b>default</b>", "signer": "SHA256:signer",
    }  # fmt: skip
    over = NewEvent(rev.COMPLETED, {"duration_s": 2.5, "voided": None})
    approved = NewEvent(rev.APPROVED, {"approved_by": "user:berta", "expires_at": later})

    def checked() -> NewEvent:
        return NewEvent(rev.CHECKED, {"checks": checks})

    def made(*events: NewEvent, **asked: Any) -> str:
        restore_id = str(uuid4())
        data = {
            "restore_id": restore_id, "command_id": str(uuid4()), "backup_id": str(uuid4()),
            "upload_id": None, "reason": MARKUP, "runner": house.restoring.context.runner,
        }  # fmt: skip
        first = NewEvent(rev.REQUESTED, data | asked, RESTORE_EVENTS)
        house.restoring.append(restore_id, first, *events)
        return restore_id

    return {
        "restore running": made(checked()),
        "restore awaited": made(**waits),
        "restore approved": made(approved, **waits),
        "restore restored": made(checked(), NewEvent(rev.CUT_OVER, {"outcome": outcome}), over),
        "restore failed": made(NewEvent(rev.FAILED, {"error": FAULT})),
    }


def _rehearsals(house: House) -> dict[str, str]:
    context = house.restoring.context

    def made(*events: NewEvent) -> str:
        rehearsal_id = str(uuid4())
        data = {
            "rehearsal_id": rehearsal_id, "command_id": str(uuid4()), "backup_id": str(uuid4()),
            "reason": MARKUP, "runner": context.runner,
        }  # fmt: skip
        with context.transaction("a test") as conn:
            first = NewEvent(hev.REQUESTED, data, RESTORE_EVENTS)
            context.rehearsals.append(conn, rehearsal_id, 0, [first, *events], WHO)
        return rehearsal_id

    done = {
        "outcome": "restorable", "duration_s": 3.0, "rows": 30, "backup_id": str(uuid4()),
        "proof": {"digest": "ef" * 32, "equivalent": True},
        "obstacles": [{"code": "x", "message": "a view of somebody’s hangs on it"}],
        "estimate": {"restore_s": 3.0, "writers_held_s": 0.4},
    }  # fmt: skip
    return {
        "rehearsal running": made(),
        "rehearsal done": made(NewEvent(hev.REHEARSED, done)),
        "rehearsal differs": made(NewEvent(hev.REHEARSED, done | {"outcome": "differs"})),
        "rehearsal failed": made(NewEvent(hev.FAILED, {"error": FAULT})),
    }
