"""Restore: check and load, compare, fence, cut over; or the instance stays as it was.

The archive is read once: loaded beside the instance while it is checked, and committed when it has
been found good. Writers go on until the fence, and are held for the cut-over alone. Every step
before that ends, when it fails, in Aborted (a fence was raised) or Failed (it was not), with
nothing left. The cut-over's transaction is the decision; behind it there is only Restored.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from restore_service import events as ev
from restore_service.checks import (
    CheckedArchive,
    check_store,
    check_target,
    source_bytes,
)
from restore_service.comparing import Compared, compare_loaded
from restore_service.context import AcceptedRestore
from restore_service.fence import Fence, staged_position
from restore_service.hashing import Hashers, Hashing
from restore_service.loading import load_archive, roll_forward
from restore_service.notice import give_notice
from restore_service.record import Record
from restore_service.replace import (
    check_no_other,
    complete,
    raise_fence,
    replace_instance,
    restored_event,
)
from restore_service.revocations import Revocations, check_revocable, plan_revocations
from restore_service.rollforward import Way, plan_way
from restore_service.run import Run, Step
from restore_service.space import SpaceWatch, full_disk_named
from restore_service.staging import (
    analyze,
    owner_connection,
    prepare_takeover,
    staging_name,
)
from restore_service.timing import check_window
from shared.crashpoints import CrashPoint
from shared.database import Connection, postgres_faults
from shared.instance.events import LogSource
from shared.messages.topics import INSTANCE_EVENTS

LOAD_OPEN = CrashPoint("restore.load.uncommitted")
STAGED = CrashPoint("restore.load.committed")
REPLAYED = CrashPoint("restore.replay.committed")
PREPARED = CrashPoint("restore.prepare.committed")
_LATE: Final = (
    "Begin earlier in the window (`secryn restore rehearse` says how long it takes), or give a "
    "reason: `--outside-window REASON`."
)


def restore_instance(run: Run, accepted: AcceptedRestore) -> None:
    """Replace the instance by an archive. What it raises ends the restore."""
    _check(run, accepted)
    checked, proof = _load(run, accepted)
    in_window = _window_of(run, accepted)
    give_notice(run, run.context.settings.restore.notice_lead_s, in_window)
    # It took a while: what stands in the way since then is named before the fence, too.
    _check_store(run)
    cancel_backup = accepted.command.running_backup == "cancel"
    fence = raise_fence(
        run,
        UUID(checked.facts["backup_id"]),
        cancel_backup=cancel_backup,
        check_time=lambda: in_window(run.context.clock.now()),
    )
    way = _way(run, accepted, checked, fence.offset)
    _prepare(run, fence, way, proof)
    source = LogSource(
        cluster_id=checked.facts["cluster_id"],
        topic_id=checked.facts["topic_id"],
        snapshot_offset=checked.facts["offset"],
        position=checked.facts["offset"] if way is None else way.target,
    )
    restored = restored_event(run, fence, UUID(checked.facts["backup_id"]), source)
    revocations = _revocations(run, accepted, fence)
    facts = {"backup_offset": checked.facts["offset"], "revoked": revocations.report or None}

    def revoke(conn: Connection) -> None:
        if revocations.events:
            stream = f"revocations-{run.id}"
            run.context.store.append(conn, stream, 0, revocations.events, run.meta)

    closing_id = replace_instance(run, fence, staging_name(run.id), restored, facts, also=revoke)
    # Who waits for the restore waits for what it revokes, too.
    complete(run, revocations.events[-1].event_id if revocations.events else closing_id)


def _check(run: Run, accepted: AcceptedRestore) -> None:
    run.step(Step.CHECK)
    check_target(run.context, accepted.command)
    _check_store(run)


def _window_of(run: Run, accepted: AcceptedRestore) -> Callable[[datetime], None]:
    """Return what checks a moment: the load, the notice and a running backup take their time."""
    settings, reason = run.context.settings.restore, accepted.command.outside_window
    return lambda moment: check_window(settings, reason, moment, _LATE)


def _check_store(run: Run) -> None:
    with run.context.transaction("checking the store") as conn:
        check_no_other(run, conn)
        check_store(conn)


def _load(run: Run, accepted: AcceptedRestore) -> tuple[CheckedArchive, dict[str, Any]]:
    """Load the archive beside the instance while it is checked; return it, and what was proven."""
    context, schema = run.context, staging_name(run.id)
    size_bytes = source_bytes(context, accepted.command)
    run.step(Step.LOAD, size_bytes)
    with (
        postgres_faults("loading"),
        full_disk_named(),
        owner_connection(context.settings.postgres.dsn) as conn,
        Hashers(Hashing.by(context.settings)) as hashers,
    ):
        space = SpaceWatch(conn, context.settings.restore)
        record = Record.of(context, accepted.command)
        space.expect(None if record is None else record.copy_bytes, size_bytes)
        with conn.transaction():
            loaded = load_archive(
                context, accepted, conn, schema,
                space=space, hashers=hashers, on_progress=run.advance,
            )  # fmt: skip
            _note_checked(run, accepted, loaded.checked, space)
            LOAD_OPEN.reach()
        STAGED.reach()
        compared = compare_loaded(run, Step, conn, schema, loaded, hashers=hashers, record=record)
    return loaded.checked, _proof(compared)


def _note_checked(
    run: Run, accepted: AcceptedRestore, checked: CheckedArchive, space: SpaceWatch
) -> None:
    """Check what takes an archive that is trusted, and say what was found."""
    checked.facts["space"] = space.facts
    if accepted.command.revoke_returning:
        check_revocable(run, checked.facts)
    way = _way(run, accepted, checked, None)
    if way is not None:
        checked.facts["roll_forward"] = {"to": way.target, "offsets": way.offsets}
    run.note(ev.CHECKED, {"checks": checked.facts})


def _way(
    run: Run, accepted: AcceptedRestore, checked: CheckedArchive, end: int | None
) -> Way | None:
    wanted = accepted.command.roll_forward
    if wanted is None:
        return None
    return plan_way(run.context, checked.facts, wanted, end, run.look)


def _prepare(run: Run, fence: Fence, way: Way | None, proof: dict[str, Any]) -> None:
    """Behind the fence: roll forward if that was asked for, and put the state at its position."""
    context, schema = run.context, staging_name(run.id)
    with context.kafka.admin() as admin:
        identity = admin.log_identity(context.kafka.topic(INSTANCE_EVENTS))
    with (
        postgres_faults("preparing the cut-over"),
        owner_connection(context.settings.postgres.dsn) as conn,
    ):
        if way is not None:
            proof |= {"roll_forward": _roll_forward(run, conn, schema, way)}
            analyze(conn, schema)
        run.step(Step.PREPARE)
        with conn.transaction():
            position = staged_position(fence, run.id, identity)
            prepare_takeover(conn, schema, position)
        PREPARED.reach()
    run.note(ev.LOADED, {"proof": proof})


def _revocations(run: Run, accepted: AcceptedRestore, fence: Fence) -> Revocations:
    if not accepted.command.revoke_returning:
        return Revocations([], {})
    context = run.context
    with context.kafka.admin() as admin:
        identity = admin.log_identity(context.kafka.topic(INSTANCE_EVENTS))
    return plan_revocations(run, fence, identity, staging_name(run.id))


def _proof(compared: Compared) -> dict[str, Any]:
    rows = {name: table.rows for name, table in compared.found.tables.items()}
    return {
        "digest": compared.found.digest, "tables": rows, "equal": True, "compared_by": compared.by,
    }  # fmt: skip


def _roll_forward(run: Run, conn: Connection, schema: str, way: Way) -> dict[str, Any]:
    """Fold the events behind the backup into the loaded state; return what became of them."""
    run.step(Step.REPLAY, way.offsets)
    rolled = roll_forward(run.context, way, conn, schema, run.advance)
    REPLAYED.reach()
    return rolled
