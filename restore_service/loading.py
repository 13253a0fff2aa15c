"""Into a schema of its own: a checked archive, and what follows it on the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from restore_service.checks import CheckedArchive, open_source
from restore_service.context import AcceptedRehearsal, AcceptedRestore, RestoreContext
from restore_service.rollforward import Way
from restore_service.staging import OnLoaded, check_keyring, empty_schema, load_staging
from shared.archive.manifest import Manifest
from shared.archive.reader import open_archive
from shared.database import Connection
from shared.errors import ArchiveAltered
from shared.instance.migrate import migrate
from shared.instance.replay import replay
from shared.instance.retrace import BEGINNING
from shared.messages.topics import INSTANCE_EVENTS


def load_again(
    context: RestoreContext,
    accepted: AcceptedRestore | AcceptedRehearsal,
    checked: CheckedArchive,
    conn: Connection,
    schema: str,
    *,
    on_progress: OnLoaded,
) -> Manifest:
    """Make ``schema`` and load the archive that was checked; in the caller's transaction.

    Raises ArchiveAltered when it is another one by now, and as ``load_staging`` does.
    """
    with open_source(context, accepted.command) as source:
        archive = open_archive(source, [accepted.key.identity])
        manifest = load_staging(conn, archive, schema, context.root, on_progress)
    if archive.sha256 != checked.sha256:
        raise ArchiveAltered("the archive changed while it was read")
    return manifest


def roll_forward(
    context: RestoreContext,
    way: Way,
    conn: Connection,
    schema: str,
    on_progress: Callable[[int], None],
) -> dict[str, Any]:
    """Fold the events behind the backup into the loaded state; return what became of them.

    Raises MessageUnreadable, KeyringError, KafkaUnavailable.
    """
    topic = context.kafka.topic(INSTANCE_EVENTS)
    with conn.transaction(), context.kafka.log_reader(topic) as reader:
        migrate(conn, schema)
        if way.base == BEGINNING:
            empty_schema(conn, schema)
        replayed = replay(
            conn, schema, reader, context.issuers, way.stretches, on_progress=on_progress
        )
        check_keyring(conn, schema, context.root)
    return {
        "to": way.target,
        "applied": replayed.applied,
        "rejected": replayed.rejected,
        "skipped": dict(replayed.skipped),
    }
