"""Change a standing setting, or confirm what came from somewhere: decided once, told, audited.

The event of this service and the event that sets the instance's setting are one append: the relay
publishes both, and neither is ever without the other.
"""

from __future__ import annotations

import time
from typing import Any, Final
from uuid import UUID, uuid5

from backup_service import events as ev
from backup_service.configuration.commands import ANY, Configure, Confirm
from backup_service.configuration.reading import (
    Configured,
    digest_of,
    on_its_way,
    read_configured,
    stream_of,
)
from backup_service.context import BackupContext
from backup_service.retention.judging import check_leaves_something
from backup_service.retention.policy import RetentionPolicy
from serving.repeated import check_same
from serving.requester import Requester
from shared.archive.age import recipient_fingerprint
from shared.audit import AuditEntry
from shared.crashpoints import CrashPoint
from shared.database import Connection, postgres_faults
from shared.errors import (
    ChangeOnItsWay,
    ConfigurationChanged,
    NothingToConfirm,
    RestoreInProgress,
    StoreBehind,
)
from shared.eventstore import EventMeta, NewEvent, StoredEvent
from shared.instance.events import SettingSet
from shared.instance.position import read_position
from shared.instance.reading import ACTOR, EPOCH
from shared.instance.stored import Written, wait_until_stored
from shared.messages.topics import BACKUP_EVENTS, INSTANCE_EVENTS
from shared.standing.setting import StandingSetting

DECIDED = CrashPoint("configuration.uncommitted")
TOLD = CrashPoint("configuration.committed")

WAIT_S: Final = 15.0
_POLL_S: Final = 0.02
_EVENTS: Final = UUID("0b3a7f0e-4f0a-5c43-8d5e-8a1f5d3c9e77")


def configure(
    context: BackupContext, command: Configure, requester: Requester, *, wait_s: float = WAIT_S
) -> dict[str, Any]:
    """Set the setting and return it as it is; a repeated command changes nothing.

    Waits up to ``wait_s`` until the store has it. Raises AccessError, ConfigurationChanged when it
    is not what ``if_match`` says, ChangeOnItsWay, RestoreInProgress, StoreBehind, EpochChanged,
    FenceOpen, CommandReused, UnavailableError.
    """
    requester.require("configure")
    model = type(command.value)
    with postgres_faults("configuring"), context.pool.connection() as conn:
        context.store.lock_appends(conn)
        decided = context.store.find(conn, _event_id(command.command_id))
        if decided is None:
            now = _checked(context, conn, model, command.if_match)
            _check_recipients(context, now, command.value, requester)
            if isinstance(command.value, RetentionPolicy):
                check_leaves_something(context, conn, command.value)
            decided = _append(context, conn, command, now, requester)
            DECIDED.reach()
        else:
            digest = digest_of(command.value.as_json())
            asked = {"name": model.SHORT, "digest": digest, "reason": command.reason}
            check_same(command.command_id, decided, ev.CONFIGURED, asked)
    TOLD.reach()
    if wait_s > 0:
        _wait(context, decided, wait_s)
    return show_configuration(context, model)


def confirm(context: BackupContext, command: Confirm, requester: Requester) -> dict[str, Any]:
    """Let what came from somewhere hold, recipients and all; a repeated command changes nothing.

    Raises AccessError, ConfigurationChanged, NothingToConfirm, ChangeOnItsWay, RestoreInProgress,
    CommandReused, UnavailableError.
    """
    requester.require("configure")
    with postgres_faults("confirming"), context.pool.connection() as conn:
        context.store.lock_appends(conn)
        known = context.store.find(conn, _event_id(command.command_id))
        if known is None:
            now = _checked(context, conn, command.model, command.if_match)
            if now.confirmed:
                raise NothingToConfirm(f"the {command.model.SHORT} was set here")
            if now.fault is not None:
                raise NothingToConfirm(
                    f"the {command.model.SHORT} cannot be read: {now.fault}",
                    hint="Set it anew: what cannot be read cannot be confirmed.",
                )
            _check_recipients(context, now, now.value, requester)
            _append(context, conn, command, now, requester)
            DECIDED.reach()
        else:
            asked = {"name": command.model.SHORT, "reason": command.reason}
            check_same(command.command_id, known, ev.CONFIGURATION_CONFIRMED, asked)
    TOLD.reach()
    return show_configuration(context, command.model)


def show_configuration(context: BackupContext, model: type[StandingSetting]) -> dict[str, Any]:
    """Return the setting as it is."""
    with postgres_faults("reading the configuration"), context.pool.connection() as conn:
        return read_configured(conn, context.store, model).as_json()


def _checked(
    context: BackupContext, conn: Connection, model: type[StandingSetting], if_match: str
) -> Configured[StandingSetting]:
    """Return the setting as it is, if it is what was decided on."""
    position = read_position(conn)
    if position.fenced:
        raise RestoreInProgress(f"restore {position.fence_restore_id} is replacing the instance")
    last = context.store.last(conn, stream_of(model))
    whatever = if_match == ANY
    if not whatever and last is not None and on_its_way(conn, context.store, position, last):
        raise ChangeOnItsWay(f"{last.actor} has changed the {model.SHORT} just now")
    now = read_configured(conn, context.store, model)
    if not whatever and if_match != now.etag:
        by = f", by {now.changed_by}" if now.changed_by else ""
        raise ConfigurationChanged(f"the {model.SHORT} was changed meanwhile{by}")
    return now


def _check_recipients(
    context: BackupContext,
    now: Configured[StandingSetting],
    value: StandingSetting,
    requester: Requester,
) -> None:
    """Naming who can open backups is reading everything; whom somebody else named may stay."""
    stays = now.value.named_recipients() if now.confirmed else frozenset()
    # What the store has not yet may have taken somebody out.
    stays = frozenset(r for r in stays if recipient_fingerprint(r) in now.decided_recipients)
    named = value.named_recipients() - stays
    requester.may_name(named, context.clock.now(), context.settings.access.proof_max_age_s)


def _append(
    context: BackupContext,
    conn: Connection,
    command: Configure | Confirm,
    now: Configured[StandingSetting],
    requester: Requester,
) -> StoredEvent:
    position = read_position(conn)
    sets = isinstance(command, Configure)
    value = command.value if isinstance(command, Configure) else now.value
    event_id = _event_id(command.command_id)
    setting_id = uuid5(event_id, "setting") if sets else None
    facts = {
        "name": value.SHORT,
        "value": value.shown(),
        "digest": digest_of(value.as_json() if sets else now.document),
        "epoch": position.epoch,
        "topic_id": position.topic_id,
        "setting_event_id": None if setting_id is None else str(setting_id),
        "reason": command.reason,
        "goes_on_since": _goes_on_since(now, value),
        "before": {
            "digest": digest_of(now.document),
            "origin": now.origin,
            "since": None if now.since is None else now.since.isoformat(),
        },
    }
    meta = EventMeta(requester.name, requester.correlation_id, str(command.command_id))
    kind = ev.CONFIGURED if sets else ev.CONFIGURATION_CONFIRMED
    told = NewEvent(kind, facts, BACKUP_EVENTS, event_id=event_id)
    (stored,) = context.store.append(conn, stream_of(type(value)), now.version, [told], meta)
    if setting_id is not None:
        event = SettingSet(name=value.setting(), value=value.as_json())
        by = {EPOCH: str(position.epoch), ACTOR: requester.name}
        on_log = NewEvent(
            SettingSet.TYPE, event.model_dump(mode="json"), INSTANCE_EVENTS, by, setting_id
        )
        context.store.append(conn, f"setting-{setting_id}", 0, [on_log], meta)
    entry = AuditEntry(
        f"configuration.{'set' if sets else 'confirm'}", "success", requester.name, "setting",
        value.setting(), requester.source, message=command.reason,
        details={"before": now.value.shown(), "after": value.shown()},
    )  # fmt: skip
    context.audit.record(conn, entry, requester.correlation_id)
    return stored


def _goes_on_since(now: Configured[StandingSetting], value: StandingSetting) -> str | None:
    """Return since when it holds, where this decision changes nothing of what runs."""
    if now.since is None or now.paused or now.fault is not None or not value.goes_on(now.value):
        return None
    return now.since.isoformat()


def _wait(context: BackupContext, decided: StoredEvent, wait_s: float) -> None:
    """Wait until the store has what was decided, or say why it will not."""
    setting_id = UUID(decided.data["setting_event_id"])
    deadline = time.monotonic() + wait_s
    while True:
        with postgres_faults("waiting for the relay"), context.pool.connection() as conn:
            delivered = context.store.delivery(conn, setting_id)
        if delivered is not None:
            break
        if time.monotonic() > deadline:
            raise StoreBehind(
                "the change is decided, and will stand on the log when Kafka takes it"
            )
        time.sleep(_POLL_S)
    written = Written(delivered.offset, decided.data["epoch"], decided.data["topic_id"], setting_id)
    wait_until_stored(context.pool, written, max(0.0, deadline - time.monotonic()))


def _event_id(command_id: UUID) -> UUID:
    return uuid5(_EVENTS, str(command_id))
