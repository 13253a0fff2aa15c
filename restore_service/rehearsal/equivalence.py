"""Proof by equivalence: the log, folded from nothing up to S, must give the archive's state."""

from __future__ import annotations

from typing import Any

from restore_service.hashing import Hashing, digest_loaded
from restore_service.rehearsal.chain import differing, rows_and_digests
from restore_service.rehearsal.run import RehearsalRun, RehearsalStep
from restore_service.rehearsal.scratch import scratch_schema
from restore_service.rollforward import Way, way_from_empty
from shared.errors import (
    CrossesRestore,
    KafkaUnavailable,
    LogGap,
    LogLost,
    MessageUnreadable,
)
from shared.instance.digest import InstanceDigest
from shared.instance.migrate import migrate
from shared.instance.replay import Replayed, replay
from shared.messages.topics import INSTANCE_EVENTS


def fold_and_compare(
    run: RehearsalRun, facts: dict[str, Any], state: InstanceDigest
) -> dict[str, Any]:
    """Fold the log up to the backup that ``facts`` describe and compare with its ``state``.

    Returns ``equivalent``: true or false, or null with the ``reason`` why the log does not tell.
    Raises Cancelled, Interrupted, PostgresUnavailable.
    """
    run.step(RehearsalStep.RETRACE)
    try:
        way = way_from_empty(run.context, facts, run.look)
        replayed, found = _fold(run, way)
    except (CrossesRestore, LogGap, LogLost, MessageUnreadable, KafkaUnavailable) as error:
        return _cannot_tell(error.code, error.message)
    return {
        "equivalent": found.digest == state.digest,
        "reason": None,
        "digest": found.digest,
        "applied": replayed.applied,
        "rejected": replayed.rejected,
        "skipped": dict(replayed.skipped),
        "differing": differing(rows_and_digests(state), rows_and_digests(found)),
    }


def _fold(run: RehearsalRun, way: Way) -> tuple[Replayed, InstanceDigest]:
    context = run.context
    topic = context.kafka.topic(INSTANCE_EVENTS)
    with scratch_schema(context, run.id) as (conn, schema):
        with conn.transaction():
            migrate(conn, schema)
        run.step(RehearsalStep.FOLD, way.offsets)
        # A transaction for each batch: a long one would keep the instance from being vacuumed.
        with context.kafka.log_reader(topic) as reader:
            replayed = replay(
                conn, schema, reader, context.issuers, way.stretches, on_progress=run.advance
            )
        run.step(RehearsalStep.COMPARE_FOLD)
        hashing = Hashing.by(context.settings, rehearsing=True)
        return replayed, digest_loaded(conn, schema, hashing, run.advance)


def _cannot_tell(code: str, message: str) -> dict[str, Any]:
    return {"equivalent": None, "reason": {"code": code, "message": message}}
