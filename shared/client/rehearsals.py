"""The client of restore_service's rehearsals."""

from __future__ import annotations

from shared.api.restores import Rehearsal, RehearsalPage, RehearsalSchedule, Upload
from shared.client.http import Progress, ServiceConnection
from shared.client.restores import sealed_command

ENDED = frozenset({"rehearsed", "failed", "cancelled"})
SEALED_FOR = "rehearse"
_PATH = "/api/v1/rehearsals"


class RehearsalClient:
    """Start, watch and cancel rehearsals."""

    def __init__(self, connection: ServiceConnection) -> None:
        self.connection = connection

    def start(
        self,
        *,
        target_instance_id: str,
        key_file_text: str,
        reason: str,
        backup_id: str | None = None,
        upload: Upload | None = None,
        source_instance_id: str | None = None,
        trust_signer: str | None = None,
        environment: str | None = None,
        roll_forward: str | int | None = None,
        expect_digest: str | None = None,
        next_backup_id: str | None = None,
        fold_log: bool = True,
    ) -> Rehearsal:
        """Ask for a restore to be rehearsed; return ``rehearsal_id`` and ``state``."""
        command = sealed_command(
            self.connection,
            target_instance_id=target_instance_id,
            key_file_text=key_file_text,
            reason=reason,
            backup_id=backup_id,
            upload=upload,
            action=SEALED_FOR,
        )
        optional = {
            "source_instance_id": source_instance_id,
            "trust_signer": trust_signer,
            "environment": environment,
            "roll_forward": roll_forward,
            "expect_digest": expect_digest,
            "next_backup_id": next_backup_id,
        }
        command |= {name: value for name, value in optional.items() if value is not None}
        return self.connection.ask(Rehearsal, "POST", _PATH, command | {"fold_log": fold_log})

    def schedule(self) -> RehearsalSchedule:
        """Return when rehearsals run by themselves, the next ten, and what came of the last."""
        return self.connection.ask(RehearsalSchedule, "GET", f"{_PATH}/schedule")

    def wait(self, rehearsal_id: str, progress: Progress | None = None) -> Rehearsal:
        """Return the rehearsal when it ended, whichever way."""
        return self.connection.watch(
            Rehearsal, f"{_PATH}/{rehearsal_id}", lambda found: found["state"] in ENDED, progress
        )

    def get(self, rehearsal_id: str) -> Rehearsal:
        """Return one rehearsal. Raises RehearsalNotFound."""
        return self.connection.ask(Rehearsal, "GET", f"{_PATH}/{rehearsal_id}")

    def list(self) -> RehearsalPage:
        """Return all rehearsals, the newest first."""
        return self.connection.ask(RehearsalPage, "GET", _PATH)

    def cancel(self, rehearsal_id: str) -> Rehearsal:
        """Ask for a rehearsal to be given up."""
        return self.connection.ask(Rehearsal, "POST", f"{_PATH}/{rehearsal_id}/cancel")
