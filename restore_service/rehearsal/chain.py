"""What the state behind a roll-forward must be: a digest that was named, or the next backup's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from restore_service.commands import RehearsalTask
from restore_service.context import RestoreContext
from restore_service.rollforward import RECEIPT_SUFFIX, Look, Way, plan_way
from shared.archive.receipt import read_receipt
from shared.errors import (
    BackupNotFound,
    ConflictError,
    CrossesRestore,
    LogLost,
    ObjectNotFound,
    RollForwardRange,
)
from shared.instance.digest import InstanceDigest
from shared.instance.migrate import newest_version


@dataclass(frozen=True)
class NextBackup:
    """A later backup of the same log, as its signed receipt describes it."""

    backup_id: str
    offset: int
    digest: str
    tables: Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class Goal:
    """Where a rehearsal rolls forward to, and what it must find there."""

    way: Way
    expect_digest: str | None = None
    following: NextBackup | None = None

    def compare(self, found: InstanceDigest) -> dict[str, Any]:
        """Return the digest that was found, whether it is the one, and which tables are not."""
        named = self.following.digest if self.following is not None else self.expect_digest
        proof: dict[str, Any] = {
            "digest": found.digest,
            "expected_digest": named,
            "equal": None if named is None else found.digest == named,
        }
        if self.following is None:
            return proof
        return proof | {
            "backup_id": self.following.backup_id,
            "differing": differing(rows_and_digests(found), self.following.tables),
        }


def plan_goal(
    context: RestoreContext, command: RehearsalTask, facts: dict[str, Any], look: Look
) -> Goal | None:
    """Return where to roll forward to from the backup that ``facts`` describe; None for nowhere.

    Raises BackupNotFound, ReceiptInvalid, SignerUntrusted, and as ``plan_way`` does; for the next
    backup CrossesRestore also where the log alone leads to it: that would prove nothing of this one.
    """
    if command.next_backup_id is None:
        if command.roll_forward is None:
            return None
        way = plan_way(context, facts, command.roll_forward, None, look)
        return Goal(way, command.expect_digest)
    following = _next_backup(context, command.next_backup_id, command.trust_signer, facts)
    way = plan_way(context, facts, following.offset, None, look)
    if way.base.offset != facts["offset"]:
        raise CrossesRestore(
            f"between offset {facts['offset']} and {following.offset} a restore put another state "
            "here: the backup of after it does not follow from this one"
        )
    return Goal(way, following=following)


def _next_backup(
    context: RestoreContext, backup_id: UUID, trust_signer: str | None, facts: dict[str, Any]
) -> NextBackup:
    name, known = str(backup_id), context.trusted_signers
    try:
        receipt = read_receipt(context.backups, name + RECEIPT_SUFFIX, name, known, trust_signer)
    except ObjectNotFound:
        raise BackupNotFound(f"the storage has no receipt of a backup {name}") from None
    told = receipt.facts
    if (told["cluster_id"], told["topic_id"]) != (facts["cluster_id"], facts["topic_id"]):
        raise LogLost(
            f"the backups {facts['backup_id']} and {name} are of two logs",
            hint="Name two backups of one log: `secryn backup show` has its topic_id.",
        )
    if told["offset"] < facts["offset"]:
        raise RollForwardRange(
            f"the backup {name} is of offset {told['offset']}, before {facts['offset']}",
            hint="Name the older backup first.",
        )
    if told["schema_version"] != newest_version():
        raise ConflictError(
            f"the backup {name} has schema version {told['schema_version']}, "
            f"the fold makes {newest_version()}: their digests cannot be compared"
        )
    tables = {
        table: (int(entry.get("rows", -1)), str(entry.get("digest")))
        for table, entry in told["tables"].items()
    }
    return NextBackup(name, told["offset"], told["digest"], tables)


def rows_and_digests(found: InstanceDigest) -> dict[str, tuple[int, str]]:
    """Return each table's row count and digest."""
    return {name: (table.rows, table.digest) for name, table in found.tables.items()}


def differing(
    one: Mapping[str, tuple[int, str]], other: Mapping[str, tuple[int, str]]
) -> list[dict[str, Any]]:
    """Return the tables that are not the same in both, with the rows of each."""
    none = (0, "")
    return [
        {"table": name, "rows": one.get(name, none)[0], "expected_rows": other.get(name, none)[0]}
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]
