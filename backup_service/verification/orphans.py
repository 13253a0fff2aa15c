"""Where the storage and the history differ: objects without a backup, backups without an object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from backup_service.context import BackupContext, object_name, receipt_name
from shared.database import Connection, postgres_faults
from shared.errors import ObjectNotFound

PAGE: Final = 1000
# What ended without an object, or has none any more.
_WITHOUT_OBJECT: Final = frozenset({"failed", "cancelled", "purged"})


class Finding(StrEnum):
    """What was found."""

    OBJECT_WITHOUT_BACKUP = "object_without_backup"
    RECEIPT_WITHOUT_BACKUP = "receipt_without_backup"
    REMAINS = "remains_of_an_ended_backup"
    UNKNOWN_OBJECT = "unknown_object"
    BACKUP_WITHOUT_OBJECT = "backup_without_object"
    BACKUP_WITHOUT_RECEIPT = "backup_without_receipt"


@dataclass(frozen=True)
class Found:
    """One difference; ``name`` is the object's, there or missing."""

    finding: Finding
    name: str
    backup_id: str | None

    def as_json(self) -> dict[str, str | None]:
        """Return what the interfaces show."""
        return {"kind": self.finding, "name": self.name, "backup_id": self.backup_id}


@dataclass(frozen=True)
class _Stored:
    """What lies in the storage under one backup's id."""

    backup_id: str
    names: frozenset[str]


def differences(context: BackupContext) -> Iterator[Found]:
    """Yield every difference; of the storage and of the history a page is held at a time.

    Each was looked at a second time: what came or went in between is none.
    Raises UnavailableError.
    """
    for found in _compared(context):
        if _stands(context, found):
            yield found


def _compared(context: BackupContext) -> Iterator[Found]:
    history = _states(context)
    known = next(history, None)
    for stored in _stored(context):
        if isinstance(stored, Found):
            yield stored
            continue
        # Ids in lower-case hexadecimal sort as text as they do as numbers.
        while known is not None and known[0] < stored.backup_id:
            yield from _judge(known[0], known[1], frozenset())
            known = next(history, None)
        if known is not None and known[0] == stored.backup_id:
            yield from _judge(known[0], known[1], stored.names)
            known = next(history, None)
        else:
            yield from _judge(stored.backup_id, None, stored.names)
    while known is not None:
        yield from _judge(known[0], known[1], frozenset())
        known = next(history, None)


def _judge(backup_id: str, state: str | None, names: frozenset[str]) -> Iterator[Found]:
    whole, receipt = object_name(backup_id), receipt_name(backup_id)
    if state == "created":
        if whole not in names:
            yield Found(Finding.BACKUP_WITHOUT_OBJECT, whole, backup_id)
        if receipt not in names:
            yield Found(Finding.BACKUP_WITHOUT_RECEIPT, receipt, backup_id)
    elif state in _WITHOUT_OBJECT:
        yield from (Found(Finding.REMAINS, name, backup_id) for name in sorted(names))
    elif state is None:
        for name in sorted(names):
            is_whole = name == whole
            kind = Finding.OBJECT_WITHOUT_BACKUP if is_whole else Finding.RECEIPT_WITHOUT_BACKUP
            yield Found(kind, name, backup_id)


def _stored(context: BackupContext) -> Iterator[_Stored | Found]:
    """Yield what lies there, by the ids of backups; whatever is of none as it is."""
    present: str | None = None
    names: set[str] = set()
    for info in context.objects.list():
        backup_id = _id_of(info.name)
        if backup_id is None:
            yield Found(Finding.UNKNOWN_OBJECT, info.name, None)
            continue
        if backup_id != present:
            if present is not None:
                yield _Stored(present, frozenset(names))
            present, names = backup_id, set()
        names.add(info.name)
    if present is not None:
        yield _Stored(present, frozenset(names))


def _id_of(name: str) -> str | None:
    """Return the backup that an object is of, by its name."""
    text = name.partition(".")[0]
    try:
        backup_id = str(UUID(text))
    except ValueError:
        return None
    if backup_id != text or name not in (object_name(text), receipt_name(text)):
        return None
    return backup_id


def _states(context: BackupContext) -> Iterator[tuple[str, str]]:
    """Yield the id and the state of every backup, by id."""
    behind: UUID | None = None
    while True:
        with postgres_faults("reading the history"), context.pool.connection() as conn:
            rows = conn.execute(
                "SELECT backup_id, state FROM backup.backups "
                "WHERE %(behind)s::uuid IS NULL OR backup_id > %(behind)s "
                "ORDER BY backup_id LIMIT %(limit)s",
                {"behind": behind, "limit": PAGE},
            ).fetchall()
        yield from ((str(backup_id), state) for backup_id, state in rows)
        if len(rows) < PAGE:
            return
        behind = rows[-1][0]


def _stands(context: BackupContext, found: Found) -> bool:
    """Tell whether a difference is still there."""
    try:
        context.objects.stat(found.name)
        there = True
    except ObjectNotFound:
        there = False
    if found.backup_id is None:
        return there
    with postgres_faults("reading the history"), context.pool.connection() as conn:
        state = _state(conn, found.backup_id)
    names = frozenset({found.name}) if there else frozenset()
    return found in _judge(found.backup_id, state, names)


def _state(conn: Connection, backup_id: str) -> str | None:
    row = conn.execute(
        "SELECT state FROM backup.backups WHERE backup_id = %s", (backup_id,)
    ).fetchone()
    return None if row is None else str(row[0])
