"""The client of the standing settings: schedule, retention, staleness, verification, rehearsal."""

from __future__ import annotations

from typing import Any

from shared.api.backups import Backup
from shared.api.configuration import Configured
from shared.api.schedule import Schedule
from shared.client.http import Json, ServiceConnection, new_command_id

# The service waits for the store before it answers.
CHANGE_TIMEOUT_S = 60.0


class ConfigurationClient:
    """Read, change and confirm standing settings by their short names."""

    def __init__(self, connection: ServiceConnection) -> None:
        self.connection = connection

    def get(self, name: str) -> Configured:
        """Return a setting: its ``value``, its ``etag``, and whether it waits for a word."""
        return self.connection.ask(Configured, "GET", f"/api/v1/configuration/{name}")

    def set(
        self,
        name: str,
        value: dict[str, Any],
        if_match: str,
        reason: str,
        *,
        command_id: str | None = None,
    ) -> Configured:
        """Set it, if it is still what ``if_match`` (an etag, or ``*``) says; return it as it is.

        Raises UsageError, ConfigurationChanged, ChangeOnItsWay, RestoreInProgress, StoreBehind.
        """
        body: Json = {
            "command_id": command_id or new_command_id(),
            "reason": reason,
            "value": value,
        }
        path = f"/api/v1/configuration/{name}"
        return self.connection.ask(
            Configured, "PUT", path, body, if_match=if_match, timeout_s=CHANGE_TIMEOUT_S
        )

    def schedule(self) -> Schedule:
        """Return the schedule, its next ten runs, and what became of the last one."""
        return self.connection.ask(Schedule, "GET", "/api/v1/schedule")

    def run_schedule(self, reason: str, *, command_id: str | None = None) -> Backup:
        """Ask for a backup as the schedule would make it; return it."""
        body: Json = {"command_id": command_id or new_command_id(), "reason": reason}
        return self.connection.ask(Backup, "POST", "/api/v1/schedule/run", body)

    def confirm(self, name: str, if_match: str, reason: str) -> Configured:
        """Confirm what a restore or somebody else brought. Raises NothingToConfirm."""
        body: Json = {"command_id": new_command_id(), "reason": reason}
        path = f"/api/v1/configuration/{name}/confirm"
        return self.connection.ask(Configured, "POST", path, body, if_match=if_match)
