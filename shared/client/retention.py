"""The client of retention: what the rules say of each backup, and having them applied."""

from __future__ import annotations

from typing import Any

from shared.api.retention import RetentionPreview, RetentionRun
from shared.client.http import Json, Progress, ServiceConnection, new_command_id


class RetentionClient:
    """Preview the rules, and have them applied; they are set by the ConfigurationClient."""

    def __init__(self, connection: ServiceConnection) -> None:
        self.connection = connection

    def preview(self, proposed: dict[str, Any] | None = None) -> RetentionPreview:
        """Return keep or purge, and by which rule, for each backup, the newest first.

        By the rules in force, or by ``proposed`` ones; nothing is changed. Raises RetentionRefused.
        """
        path = "/api/v1/retention/preview"
        if proposed is None:
            return self.connection.ask(RetentionPreview, "GET", path)
        return self.connection.ask(RetentionPreview, "POST", path, {"value": proposed})

    def run(self, reason: str, *, command_id: str | None = None) -> RetentionRun:
        """Have the rules in force applied; return the run: its ``run_id`` and ``state``."""
        body: Json = {"command_id": command_id or new_command_id(), "reason": reason}
        return self.connection.ask(RetentionRun, "POST", "/api/v1/retention/runs", body)

    def wait(self, run_id: str, progress: Progress | None = None) -> RetentionRun:
        """Return the run when it is applied, or failed."""
        return self.connection.watch(
            RetentionRun,
            f"/api/v1/retention/runs/{run_id}",
            lambda run: run["state"] != "requested",
            progress,
        )
