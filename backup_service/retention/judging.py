"""What the rules in force say of every backup that is there.

After a restore, rules that came back with the data purge only what the rules before it would purge
as well, until an administrator confirms them; rules of another instance, and any behind an open
fence, purge nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from backup_service.configuration.reading import Configured, read_configured
from backup_service.context import BackupContext
from backup_service.retention.candidates import read_candidates
from backup_service.retention.evaluate import (
    Candidate,
    Rule,
    Verdict,
    evaluate,
    evaluate_unconfirmed,
    would_purge_all,
)
from backup_service.retention.policy import RetentionPolicy
from shared.database import Connection
from shared.errors import RetentionRefused
from shared.instance.position import read_position


@dataclass(frozen=True)
class Judged:
    """The rules in force and what they say; ``rules`` are what was judged by."""

    rules: RetentionPolicy
    configured: Configured[RetentionPolicy]
    verdicts: list[Verdict]

    def as_json(self) -> dict[str, Any]:
        """Return what the interfaces show."""
        return {
            "rules": self.rules.as_json(),
            "origin": self.configured.origin,
            "confirmed": self.configured.confirmed,
            "paused": self.configured.paused,
            "fault": self.configured.fault,
            "purge": sum(verdict.purge for verdict in self.verdicts),
            "keep": sum(not verdict.purge for verdict in self.verdicts),
            "backups": [verdict.as_json() for verdict in self.verdicts],
        }


def judge(
    context: BackupContext, conn: Connection, candidates: list[Candidate] | None = None
) -> Judged:
    """Return what the rules in force say now; nothing is changed."""
    configured = read_configured(conn, context.store, RetentionPolicy)
    backups = read_candidates(context, conn) if candidates is None else candidates
    now = context.clock.now()
    # Where nothing was decided here, nothing was purged.
    decided = configured.decided or RetentionPolicy()
    if configured.confirmed and decided == configured.value:
        verdicts = evaluate(decided, backups, now)
    else:
        # From a restore or past this service; or what was decided is on its way to the store yet.
        verdicts = evaluate_unconfirmed(decided, configured.value, backups, now)
    if configured.paused or read_position(conn).fenced:
        verdicts = [replace(v, rule=Rule.PAUSED) if v.purge else v for v in verdicts]
    return Judged(configured.value, configured, verdicts)


def judge_by(context: BackupContext, conn: Connection, rules: RetentionPolicy) -> Judged:
    """Return what ``rules`` would say if they were set now."""
    configured = read_configured(conn, context.store, RetentionPolicy)
    verdicts = evaluate(rules, read_candidates(context, conn), context.clock.now())
    return Judged(rules, configured, verdicts)


def check_leaves_something(
    context: BackupContext, conn: Connection, rules: RetentionPolicy
) -> None:
    """Refuse rules by which no backup that counts would be left but for holds and safety.

    Raises RetentionRefused.
    """
    now, backups = context.clock.now(), read_candidates(context, conn)
    if not would_purge_all(rules, backups, now):
        return
    counting = evaluate(RetentionPolicy(), backups, now)
    newest = next(v.backup.taken_at for v in counting if v.backup.counts)
    days = (now - newest).days + 1
    raise RetentionRefused(
        f"these rules would purge every backup that counts: the newest is {days - 1} days old",
        hint=f"Make a backup first, write older_than_days: {days} or more, or add keep_daily: 7.",
    )
