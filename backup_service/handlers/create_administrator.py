"""Make an administrator of backups: a user, a role that may do all of it, and the binding.

For the machine's own operator, and for the bootstrap credential of an instance without users,
which is spent by it. The three are events of the instance like any other, in one transaction on
the log: there is never a user who could open nothing and whom nobody else could help.
"""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field

from backup_service.context import BackupContext
from serving.access.bootstrap import BOOTSTRAP
from serving.access.passwords import MAX_PASSWORD_BYTES, PasswordGate, hash_password
from serving.access.people import PERMISSION_PREFIX, has_users, person_named
from serving.caller import PERMISSIONS
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.database import Connection, Lock, lock_transaction, postgres_faults
from shared.errors import BootstrapSpent, UserExists
from shared.instance import events as ie
from shared.instance.writer import InstanceWriter

ROLE_NAME: Final = "Backup administrator"
STORED_WITHIN_S: Final = 20.0


class CreateAdministrator(BaseModel):
    """A new user of the instance, who may do everything about backups."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    username: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
    display_name: Annotated[str, Field(max_length=255, pattern=ie.WITHOUT_NUL)] = ""
    email: Annotated[str, Field(max_length=255, pattern=ie.WITHOUT_NUL)] = ""
    password: Annotated[str, Field(max_length=MAX_PASSWORD_BYTES, repr=False)]


def create_administrator(
    context: BackupContext, gate: PasswordGate, command: CreateAdministrator, requester: Requester
) -> dict[str, Any]:
    """Make the administrator and wait until the store has it.

    Raises UsageError for a short password, UserExists, BootstrapSpent, FenceOpen, SignInBusy,
    StoreBehind, KafkaUnavailable, PostgresUnavailable.
    """
    requester.require("create_administrator")
    with gate.entered():
        password_hash = hash_password(command.password)
    # One connection holds the lock until the store has the user: who comes second finds it.
    with postgres_faults("making an administrator"), context.pool.connection() as conn:
        lock_transaction(conn, Lock.ADMINISTRATOR)
        if requester.name == BOOTSTRAP and has_users(conn):
            raise BootstrapSpent("the instance has users")
        if person_named(conn, command.username) is not None:
            raise UserExists(f"there is a user {command.username[:64]!r} already")
        user_id, role_id, events = _events(conn, command, password_hash)
        with InstanceWriter(
            context.kafka, context.pool, context.root, source="backup", actor=requester.name
        ) as writer:
            written = writer.append_together(events, context.kafka.topic("backup.administrator"))
            writer.wait_until_stored(written, STORED_WITHIN_S)
        entry = AuditEntry(
            "administrator.create", "success", requester.name, "user", str(user_id),
            requester.source, log_offset=written.offset,
            details={"username": command.username, "role_id": str(role_id)},
        )  # fmt: skip
        context.audit.record(conn, entry, requester.correlation_id)
    return {
        "user_id": str(user_id), "username": command.username, "role_id": str(role_id),
        "offset": written.offset,
    }  # fmt: skip


def _events(
    conn: Connection, command: CreateAdministrator, password_hash: str
) -> tuple[UUID, UUID, list[ie.InstanceEvent]]:
    user_id = uuid4()
    events: list[ie.InstanceEvent] = [
        ie.UserCreated(
            id=user_id,
            username=command.username,
            display_name=command.display_name or command.username,
            email=command.email,
            password_hash=password_hash,
        )
    ]
    wanted = tuple(sorted(f"{PERMISSION_PREFIX}{permission}" for permission in PERMISSIONS))
    role_id = _role_that_may(conn, wanted)
    if role_id is None:
        role_id = uuid4()
        events.append(
            ie.RoleCreated(
                id=role_id,
                name=_free_name(conn),
                description="May do everything about backups and restores",
                permissions=wanted,
            )
        )
    events.append(
        ie.RoleBindingCreated(id=uuid4(), role_id=role_id, user_id=user_id, scope_kind="instance")
    )
    return user_id, role_id, events


def _role_that_may(conn: Connection, wanted: tuple[str, ...]) -> UUID | None:
    """Return a role with exactly these permissions, if there is one: no more is given away."""
    row = conn.execute(
        "SELECT role_id FROM instance.role_permissions GROUP BY role_id "
        'HAVING array_agg(permission ORDER BY permission COLLATE "C") = %s ORDER BY role_id LIMIT 1',
        (list(wanted),),
    ).fetchone()
    return None if row is None else UUID(str(row[0]))


def _free_name(conn: Connection) -> str:
    taken = {row[0] for row in conn.execute("SELECT name FROM instance.roles")}
    names = (ROLE_NAME if n == 1 else f"{ROLE_NAME} {n}" for n in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)
