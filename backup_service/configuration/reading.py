"""What a standing setting is now, whether it was set here, and what a restore did to it.

The value stands in the instance's settings, so that a restore sets it back. What was decided about
it here stands in the events of this service, which no restore touches. Where both agree, in the
present epoch, the setting is *ours*. Anything else came from somewhere:

- ``restored``: a restore of a backup of this instance brought it back. It is in force, but nobody
  is encrypted to whom it names.
- ``foreign``: it came with the data of another instance; ``unheard``: a restore is over, and
  where its data came from is not known yet. Both are paused.
- ``written``: somebody wrote it to the log without asking this service. As ``restored``.

All but the first wait for an administrator (``handlers/confirm_configuration.py``).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar
from uuid import UUID

from backup_service import events as ev
from shared.database import Connection
from shared.errors import UsageError
from shared.eventstore import EventStore, StoredEvent
from shared.instance.position import LogPosition, read_position
from shared.standing.setting import StandingSetting

S = TypeVar("S", bound=StandingSetting)


class Origin(StrEnum):
    """Where the present value comes from."""

    OURS = "ours"
    RESTORED = "restored"
    FOREIGN = "foreign"
    UNHEARD = "unheard"
    WRITTEN = "written"


@dataclass(frozen=True)
class Configured(Generic[S]):
    """A standing setting as it is. ``value`` holds the defaults where it was never set.

        ``fault`` says why a stored value cannot be read; the defaults hold then. ``decided`` is what
        was last set or confirmed here, before whatever restore came since. ``since`` is when the value
    began to hold here. ``version`` is that of the setting's stream.
    """

    value: S
    etag: str
    origin: Origin
    epoch: int
    version: int
    document: Any = None
    changed_at: datetime | None = None
    changed_by: str | None = None
    since: datetime | None = None
    decided: S | None = None
    decided_recipients: frozenset[str] = frozenset()
    fault: str | None = None

    @property
    def confirmed(self) -> bool:
        """Tell whether somebody here answers for the value."""
        return self.origin is Origin.OURS

    @property
    def paused(self) -> bool:
        """Tell whether nothing may be done by it before it is confirmed."""
        foreign = self.origin in (Origin.FOREIGN, Origin.UNHEARD)
        return foreign and self.value.PAUSED_WHEN_FOREIGN

    @property
    def waiting_recipients(self) -> frozenset[str]:
        """Return who is named and may not be encrypted to yet."""
        return frozenset() if self.confirmed else self.value.named_recipients()

    @property
    def awaits_confirmation(self) -> bool:
        """Tell whether something is held back until somebody says a word."""
        held = self.value.HELD_BACK or self.paused or bool(self.value.named_recipients())
        return held and not self.confirmed

    def as_json(self) -> dict[str, Any]:
        """Return what the interfaces show."""
        return {
            "name": self.value.SHORT,
            "value": self.value.as_json(),
            "etag": self.etag,
            "origin": self.origin,
            "confirmed": self.confirmed,
            "paused": self.paused,
            "awaits_confirmation": self.awaits_confirmation,
            "changed_at": None if self.changed_at is None else self.changed_at.isoformat(),
            "changed_by": self.changed_by,
            "fault": self.fault,
        }


def stream_of(model: type[StandingSetting]) -> str:
    """Return the stream of what was decided here about a setting."""
    return f"configuration-{model.SHORT}"


def read_configured(conn: Connection, store: EventStore, model: type[S]) -> Configured[S]:
    """Return the setting as it is; in the caller's transaction, which keeps a cut-over off.

    Raises LogLost when the store was never connected to a log.
    """
    position = read_position(conn)
    row = conn.execute(
        "SELECT value, updated_at, updated_by FROM instance.settings WHERE name = %s",
        (model.setting(),),
    ).fetchone()
    last = store.last(conn, stream_of(model))
    version = 0 if last is None else last.version
    named = (
        frozenset[str]() if last is None else frozenset(last.data["value"].get("recipients", ()))
    )
    decided = _decided(model, last)
    if row is None:
        etag = _etag(None, position.epoch, version)
        return Configured(
            model(), etag, Origin.OURS, position.epoch, version, decided=decided,
            since=None if last is None else last.occurred_at,
        )  # fmt: skip
    value, fault = _value(model, row[0])
    origin, since = _origin(conn, store, position, last, row[0])
    etag = _etag([row[0], row[1].isoformat(), row[2]], position.epoch, version)
    return Configured(
        value, etag, origin, position.epoch, version, row[0], row[1], row[2], since or row[1],
        decided, named, fault,
    )  # fmt: skip


def _value(model: type[S], document: Any) -> tuple[S, str | None]:
    try:
        return model.read(document), None
    except UsageError as error:
        # A newer release may have written it, or a zone may be gone.
        return model(), error.message


def _decided(model: type[S], last: StoredEvent | None) -> S | None:
    """Return what was decided; whom it names is told by fingerprint, and not in it."""
    if last is None:
        return None
    told = last.data["value"]
    return _value(model, told | ({"recipients": []} if "recipients" in told else {}))[0]


def _origin(
    conn: Connection,
    store: EventStore,
    position: LogPosition,
    last: StoredEvent | None,
    document: Any,
) -> tuple[Origin, datetime | None]:
    if last is not None and last.data["epoch"] == position.epoch:
        if last.data["digest"] == digest_of(document):
            goes_on_since = last.data["goes_on_since"]
            began = datetime.fromisoformat(goes_on_since) if goes_on_since else last.occurred_at
            return Origin.OURS, began
        before = last.data["before"]
        if before["digest"] == digest_of(document) and on_its_way(conn, store, position, last):
            return Origin(before["origin"]), datetime.fromisoformat(before["since"])
        return Origin.WRITTEN, None
    restore = store.last(conn, ev.RESTORES_STREAM)
    if restore is not None and restore.data["epoch"] == position.epoch:
        here = restore.data["of_this_instance"]
        return (Origin.RESTORED if here else Origin.FOREIGN), restore.occurred_at
    # An instance begins with epoch 1: before its first restore nothing can have come from one.
    return (Origin.WRITTEN if position.epoch == 1 else Origin.UNHEARD), None


def digest_of(document: Any) -> str:
    """Return what tells a stored value from another one, without saying it."""
    told = json.dumps(document, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(told.encode("ascii")).hexdigest()


def _etag(row: Any, epoch: int, version: int) -> str:
    return digest_of([row, epoch, version])[:32]


def on_its_way(
    conn: Connection, store: EventStore, position: LogPosition, last: StoredEvent
) -> bool:
    """Tell whether the store has not yet folded what was decided last.

    A restore or another log in between makes it void.
    """
    setting = last.data["setting_event_id"]
    if setting is None or (last.data["epoch"], last.data["topic_id"]) != (
        position.epoch,
        position.topic_id,
    ):
        return False
    delivered = store.delivery(conn, UUID(setting))
    return delivered is None or position.position <= delivered.offset
